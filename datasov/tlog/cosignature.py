"""Cosignatures of witnesses (C2SP tlog-cosignature, cosignature/v1) and the policies that demand them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from datasov.crypto.sign import SigningKey, check_public, verify
from datasov.errors import ProofError, SignatureError
from datasov.tlog.note import (
    COSIGNATURE,
    MAX_SIGNATURES,
    Checkpoint,
    check_name,
    key_id,
    open_checkpoint,
    parse_vkey,
    signature_line,
    split_note,
    vkey,
)
from datasov.tlog.tree import MAX_SIZE

AHEAD = 300
"""Seconds that a witness's clock may be ahead of the reader's."""
_STAMP, _SIGNATURE = 8, 64


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness by its name and its Ed25519 key (32 bytes); ProofError where they are none."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        try:
            check_public(self.public)
        except SignatureError as fault:
            raise ProofError(f"not the key of a witness: {fault}") from None

    @staticmethod
    def parse(text: str) -> Cosigner:
        """The witness of a verifier key of type 0x04; ProofError where the text is none."""
        return Cosigner(*parse_vkey(text, COSIGNATURE))

    def __str__(self) -> str:
        return vkey(self.name, self.public, COSIGNATURE)


@dataclass(frozen=True, slots=True)
class Policy:
    """At least `least` of the members must have cosigned; a member is a witness or a policy of its own.

    No witness stands twice in it, by the bytes of its key, whatever names it has.

    Raises:
        ProofError: not 1 <= least <= number of members, or a key stands twice.
    """

    least: int
    members: tuple[Cosigner | Policy, ...]

    def __post_init__(self) -> None:
        if isinstance(self.least, bool) or not isinstance(self.least, int) or not 1 <= self.least <= len(self.members):
            raise ProofError("a policy asks for at least one and at most all of its witnesses: change the number")
        keys = [w.public for w in self.witnesses()]
        if len(set(keys)) != len(keys):
            raise ProofError("a witness stands twice in the policy, by its key: name each once")

    def witnesses(self) -> Iterator[Cosigner]:
        """All witnesses that are named anywhere in it."""
        for member in self.members:
            yield from (member,) if isinstance(member, Cosigner) else member.witnesses()

    def holds(self, signed: AbstractSet[bytes]) -> bool:
        """Whether these keys satisfy it."""
        met = (m.public in signed if isinstance(m, Cosigner) else m.holds(signed) for m in self.members)
        return sum(met) >= self.least


def any_of(least: int, witnesses: Iterable[str | Cosigner]) -> Policy:
    """The policy "`least` of these witnesses", given as verifier keys."""
    return Policy(least, tuple(w if isinstance(w, Cosigner) else Cosigner.parse(w) for w in witnesses))


def cosign(text: str, name: str, key: SigningKey, time: int) -> str:
    """The signature line, newline included, by which a witness cosigns a checkpoint's text at `time` (Unix seconds)."""
    if isinstance(time, bool) or not isinstance(time, int) or not 0 <= time <= MAX_SIZE:
        raise ProofError("a cosignature's time is a number of seconds since 1970: set the clock right")
    stamp = time.to_bytes(_STAMP, "big")
    return signature_line(name, key_id(name, key.public, COSIGNATURE), stamp + key.sign(_message(text, time)))


def _message(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosignatures(note: bytes, witnesses: Iterable[Cosigner]) -> dict[bytes, int]:
    """When each of these witnesses cosigned the note (Unix seconds), by its key; of several lines the latest counts.

    Lines of unknown names and keys are passed over; every line of a known one must verify.

    Raises:
        ProofError: the note is malformed, or a line of a known witness does not verify.
    """
    text, lines = split_note(note)
    known = {(w.name, key_id(w.name, w.public, COSIGNATURE)): w for w in witnesses}
    times: dict[bytes, int] = {}
    for name, raw in lines:
        witness = known.get((name, raw[:4]))
        if witness is not None:
            time = _verified(text, witness, raw[4:])
            times[witness.public] = max(time, times.get(witness.public, 0))
    return times


def _verified(text: str, witness: Cosigner, signature: bytes) -> int:
    time = int.from_bytes(signature[:_STAMP], "big")
    if len(signature) != _STAMP + _SIGNATURE or time > MAX_SIZE:
        raise ProofError("a malformed cosignature: ask the log for its checkpoint again")
    try:
        verify(witness.public, _message(text, time), signature[_STAMP:])
    except SignatureError:
        raise ProofError("a cosignature does not verify: keep the note, it may be forged or changed") from None
    return time


def verify_cosigned(note: bytes, policy: Policy, *, now: int, within: int | None = None) -> dict[bytes, int]:
    """Raise ProofError unless enough witnesses cosigned the note; when each one that counts did, by its key.

    Args:
        now: Unix seconds. A cosignature that is more than :data:`AHEAD` seconds ahead does not count.
        within: nor does one older than so many seconds; a reader that sets it is not shown an old log for longer.
    """
    times = cosignatures(note, policy.witnesses())
    live = {k: t for k, t in times.items() if t <= now + AHEAD and (within is None or t >= now - within)}
    if not policy.holds(live.keys()):
        late = "; some are too old or in the future: check the clock" if len(live) < len(times) else ""
        raise ProofError(f"the checkpoint is not cosigned by enough witnesses: ask the log for a newer one{late}")
    return live


def open_cosigned(
    note: bytes, origin: str, public: bytes, policy: Policy, *, now: int, within: int | None = None
) -> Checkpoint:
    """The checkpoint of a note that the log signed and that satisfies the policy; ProofError otherwise.

    The log itself is no witness of its own: a policy that names its key is refused.
    """
    if any(w.public == public for w in policy.witnesses()):
        raise ProofError("the log cannot be a witness of its own: leave its key out of the policy")
    found = open_checkpoint(note, origin, public)
    verify_cosigned(note, policy, now=now, within=within)
    return found


def attach(note: bytes, given: bytes, witnesses: Iterable[Cosigner]) -> bytes:
    """`note` with the lines of these witnesses that `given`, a note of the same text, has: of each the latest.

    Raises:
        ProofError: another text, no such line, one that does not verify, or more lines than a note may have.
    """
    text, _ = split_note(note)
    known = list(witnesses)
    if split_note(given)[0] != text:
        raise ProofError("a cosignature of another checkpoint: ask the witness for this one")
    new = cosignatures(given, known)
    if not new:
        raise ProofError("no cosignature of a known witness: name the witness by its verifier key")
    ids = {(w.name, key_id(w.name, w.public, COSIGNATURE)) for w in known}
    lines = {(name, raw[:4]): raw for name, raw in split_note(note)[1]}
    for name, raw in split_note(given)[1]:
        place = (name, raw[:4])
        if place in ids and raw > lines.get(place, b""):  # the time stands before the signature
            lines[place] = raw
    if len(lines) > MAX_SIGNATURES:
        raise ProofError("more cosignatures than a note may have: leave some witnesses out")
    return f"{text}\n{''.join(signature_line(name, raw[:4], raw[4:]) for (name, _), raw in lines.items())}".encode()


def read_policy(text: str) -> tuple[dict[str, bytes], Policy | None]:
    """The logs (public keys by origin) and the policy of a C2SP tlog-policy file; None where its quorum is `none`.

    Raises:
        ProofError: the text is no such file.
    """
    logs: dict[str, bytes] = {}
    named: dict[str, Cosigner | Policy] = {}
    quorums: list[str] = []
    if any(c < " " and c not in "\t\n" for c in text):
        raise ProofError("not a policy: no other control characters than tabs and newlines")
    for line in text.split("\n"):
        words = line.replace("\t", " ").split(" ")
        match [w for w in words if w]:
            case []:
                continue
            case [first, *_] if first.startswith("#"):
                continue
            case ["log", key] | ["log", key, _]:
                origin, public = parse_vkey(key)
                if public in logs.values():
                    raise ProofError("a log stands twice in the policy, by its key: name each once")
                if origin in logs:
                    raise ProofError("two keys for one log in the policy, by its name: leave the older one out")
                logs[origin] = public
            case ["witness", name, key] | ["witness", name, key, _] if _fresh(name, named):
                named[name] = Cosigner.parse(key)
            case ["group", name, least, *names] if _fresh(name, named) and names and set(names) <= named.keys():
                named[name] = Policy(_least(least, len(names)), tuple(named[n] for n in names))
            case ["quorum", name] if name in named or name == "none":
                quorums.append(name)
            case _:
                raise ProofError("a line of the policy is not understood: see c2sp.org/tlog-policy for its form")
    everybody = [w.public for w in named.values() if isinstance(w, Cosigner)]
    if len(quorums) != 1 or len(set(everybody)) != len(everybody):
        raise ProofError("a policy has one quorum line, and names each witness once, by its key")
    found = named.get(quorums[0])
    return logs, Policy(1, (found,)) if isinstance(found, Cosigner) else found


def _fresh(name: str, named: dict[str, Cosigner | Policy]) -> bool:
    return name not in named and name != "none"


def _least(text: str, members: int) -> int:
    if text in ("any", "all"):
        return 1 if text == "any" else members
    if not 1 <= len(text) <= 4 or not (text.isascii() and text.isdigit()) or str(int(text)) != text:
        raise ProofError("a group of a policy asks for any, all or a number of its members")
    return int(text)
