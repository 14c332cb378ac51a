"""What a resident holds beside their rows, as documents: consents, the account of losses, checkpoints of logs.

The signing identity is not among them: consents of an export can be read and counted elsewhere, and used only in the
vault that signed them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from datasov.authority import delegation, held, token
from datasov.authority.held import HeldDelegation, Record, granted
from datasov.errors import DatasovError, ProofError, StoreError, VerificationError
from datasov.model.consent import CityId
from datasov.model.privacy import MAX_DELTA, MAX_NANO, Loss
from datasov.tlog.note import open_checkpoint, origin_of, peek_checkpoint
from datasov.tlog.operators import decoded, follow

_LATEST = 1 << 62
"""No clock shows as many microseconds since 1970."""
ACCOUNT, CONSENTS, CHECKPOINTS = "account.json", "consents.json", "checkpoints.json"
DELEGATIONS, SIGNED = "delegations.json", "signed.json"
"""Of a resident who has to do with delegations."""


Held = TypeVar("Held", Record, HeldDelegation)


@dataclass(frozen=True, slots=True)
class Notes:
    """What a vault holds beside rows.

    Attributes:
        records: consents on the resident's own accounts, with their salts. lifetime: the limit for life.
        checkpoints: those last seen, by the names of their notes.
        delegations: given and received. signed: consents for somebody else.
        statements: what operators said in logs, by the names of their notes; they are in no export.
    """

    records: tuple[Record, ...] = ()
    lifetime: Loss | None = None
    checkpoints: Mapping[str, bytes] | None = None
    delegations: tuple[HeldDelegation, ...] = ()
    signed: tuple[Record, ...] = ()
    statements: Mapping[str, bytes] | None = None


def documents(notes: Notes) -> dict[str, object]:
    """A document for each kind of note."""
    delegated = {
        DELEGATIONS: [_delegation(d) for d in notes.delegations], SIGNED: [_consent(r) for r in notes.signed],
    }  # fmt: skip
    return {
        **{name: document for name, document in delegated.items() if document},
        ACCOUNT: {
            "lifetime": None if notes.lifetime is None else _loss(notes.lifetime),
            "granted": _loss(granted(notes.records)),
        },
        CONSENTS: [_consent(record) for record in notes.records],
        CHECKPOINTS: {name: note.decode() for name, note in _own(notes).items()},
    }


def read(found: Mapping[str, Any]) -> Notes:
    """The notes of an export; what is granted in them counts, and none of its consents can be used here.

    Raises:
        VerificationError: a document is none that :func:`documents` gives.
    """
    try:
        records = tuple(_record(item) for item in found[CONSENTS])
        limit = found[ACCOUNT]["lifetime"]
        lifetime = None if limit is None else _read_loss(limit)
        checkpoints = {name: note.encode() for name, note in found[CHECKPOINTS].items()}
        delegations = tuple(_read_delegation(item) for item in found.get(DELEGATIONS, ()))
        signed = tuple(_record(item) for item in found.get(SIGNED, ()))
    except (DatasovError, KeyError, TypeError, ValueError, AttributeError):
        raise VerificationError("the notes of the export cannot be read: export again, or upgrade datasov") from None
    notes = Notes(records, lifetime, checkpoints, delegations, signed)
    if documents(notes) != found:
        raise VerificationError("the notes of the export do not agree with each other: export again")
    check_signed(notes)
    return notes


def check_signed(notes: Notes) -> None:
    """Raise VerificationError unless a city that a consent names signed each checkpoint, under that id or a later one.

    One that nobody signed would make that city's log look like a forger to the vault that takes it in.
    """
    cities = _cities(notes)
    for name, note in (notes.checkpoints or {}).items():
        if name not in cities:
            raise VerificationError("the export holds a checkpoint of a city that no consent names: export again")
        origin = peek_checkpoint(note).origin
        said = held.unpack_statements((notes.statements or {}).get(held.operators_note(origin)))
        operators = follow(decoded(said), origin, [cities[name]])
        if not operators.known(cities[name]) or not any(_is_signed(note, origin, c) for c in operators.ids):
            raise VerificationError("the export holds a checkpoint that its city did not sign: export again")


def _own(notes: Notes) -> dict[str, bytes]:
    """The checkpoints that verify under the id in a consent: what a later key of the city signed needs its log."""
    cities = _cities(notes)
    return {
        name: note for name, note in (notes.checkpoints or {}).items()
        if name not in cities or _is_signed(note, origin_of(cities[name].verify_key), cities[name])
    }  # fmt: skip


def _cities(notes: Notes) -> dict[str, CityId]:
    audiences = dict.fromkeys(r.consent.claims.audience for r in notes.records)
    return {held.log_note(text): CityId.parse(text) for text in audiences}


def _is_signed(note: bytes, origin: str, city: CityId) -> bool:
    try:
        open_checkpoint(note, origin, city.verify_key)
        return True
    except ProofError:
        return False


def spent(items: Iterable[Held]) -> tuple[Held, ...]:
    """Records as a vault keeps those of another one: they count, and cannot be contributed or signed under."""
    return tuple(replace(item, revoked=True) for item in items)


def gathered(mine: Sequence[Held], arrived: Iterable[Held]) -> list[Held]:
    """What a vault holds, and after it what came and was not there, as :func:`spent`."""
    found = {item.digest: item for item in mine}
    for item in spent(arrived):
        found.setdefault(item.digest, item)
    return list(found.values())


def combined(mine: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The notes of two devices of one resident, to the safe side: every consent counts, the smaller limit holds.

    A consent that was revoked on either is revoked, and so is a delegation, with the consents under it. Of two
    checkpoints of a log the larger is kept, and of two numbers of contributions or sequence numbers. What each device
    spent on answers is kept apart, the larger of two, and adds up; of two answers to one task, or to one question under
    local trust, both keep the same. Notes that this release does not know stay on their device.

    Raises:
        ProofError: a log showed two trees of one size, one to each device.
        StoreError: the other device's numbers could not be counted up for long.
    """
    found = dict(mine)
    delegations = _united(held.unpack_delegations(n.get(held.DELEGATIONS)) for n in (mine, theirs))
    if delegations:
        found[held.DELEGATIONS] = held.pack_delegations(
            sorted(delegations.values(), key=lambda d: (d.claims.issued, d.digest))
        )
    ended = {d.digest for d in delegations.values() if d.revoked}
    for name in (held.CONSENTS, held.SIGNED):
        kept = _united(held.unpack(notes.get(name)) for notes in (mine, theirs))
        records = [replace(r, revoked=r.revoked or not ended.isdisjoint(r.links)) for r in kept.values()]
        if records:
            found[name] = held.pack(sorted(records, key=lambda r: (r.consent.claims.issued, r.digest)))
    limit = smaller(*(held.unpack_limit(notes.get(held.LIFETIME)) for notes in (mine, theirs)))
    if limit is not None:
        found[held.LIFETIME] = held.pack_limit(limit)
    for name, note in theirs.items():
        if name.startswith(held.LOG):
            found[name] = _longer(mine.get(name, note), note)
        elif name.startswith((held.NUMBER, held.SEQUENCE)):
            if int.from_bytes(note, "big") >= _LATEST:
                raise StoreError("the other device numbers its contributions as no clock does: do not merge it")
            found[name] = max(mine.get(name, note), note)
        elif name.startswith(held.SPENT):
            found[name] = b"".join(max(pair) for pair in _halves(mine.get(name, note), note))
        elif name.startswith((held.ANSWER, held.NOISED, held.ENDED)):
            found[name] = min(mine.get(name, note), note)
        elif name.startswith((held.PURPOSE, held.ACCOUNT)):
            found.setdefault(name, note)
        elif name.startswith(held.OPERATORS):
            found[name] = max(mine.get(name, note), note, key=len)
    return found


def _united(devices: Iterable[Iterable[Held]]) -> dict[bytes, Held]:
    """What either device holds, by identity; of one that both hold, with the lesser salt, so that both agree."""
    found: dict[bytes, Held] = {}
    for items in devices:
        for item in items:
            known = found.get(item.digest, item)
            kept = min(known, item, key=lambda held: held.salt)
            found[item.digest] = replace(kept, revoked=known.revoked or item.revoked)
    return found


def _halves(mine: bytes, theirs: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What one device spent, as each vault knows it, in nano and in delta; StoreError where it is none."""
    if len(theirs) != 32 or len(mine) != 32:
        raise StoreError("the other device counts what it spent as no release does: do not merge it")
    return (mine[:16], theirs[:16]), (mine[16:], theirs[16:])


def _longer(mine: bytes, theirs: bytes) -> bytes:
    """The checkpoint of more leaves. Both were verified when they were kept."""
    sizes = [(int(lines[1]), lines[2]) for lines in (note.split(b"\n", 3) for note in (mine, theirs))]
    if sizes[0][0] == sizes[1][0] and sizes[0][1] != sizes[1][1]:
        raise ProofError("a log showed another tree to each device: keep both vaults as evidence, and ask the city")
    return mine if sizes[0][0] >= sizes[1][0] else theirs


def smaller(a: Loss | None, b: Loss | None) -> Loss | None:
    """The limit that holds where both do; None is no limit."""
    if a is None or b is None:
        return a if b is None else b
    return Loss(min(a.nano, b.nano), delta=min(a.delta, b.delta))


def _loss(loss: Loss) -> dict[str, object]:
    return {"measure": loss.measure, "nano": loss.nano, "delta": str(loss.delta)}


def _read_loss(doc: Mapping[str, Any]) -> Loss:
    nano, delta = doc["nano"], int(doc["delta"])
    if type(nano) is not int or not 0 <= nano <= MAX_NANO or not 0 <= delta <= MAX_DELTA:
        raise ValueError
    return Loss(nano, delta=delta)


def _consent(record: Record) -> dict[str, object]:
    """A consent in words, and what it is made of."""
    claims = record.consent.claims
    return {
        "city": claims.audience, "purpose": claims.purpose, "domain": record.domain, "revoked": record.revoked,
        "issued": _time(claims.issued), "expires": _time(claims.expires), "loss": _loss(claims.loss),
        "tables": [
            {"name": c.table, "schema": c.schema_digest.hex(), "columns": list(c.columns)} for c in claims.coverage
        ],
        "token": record.consent.token.hex(), "salt": record.salt.hex(),
        **({"chain": [link.hex() for link in record.consent.chain]} if record.consent.chain else {}),
    }  # fmt: skip


def _record(doc: Mapping[str, Any]) -> Record:
    if type(doc["revoked"]) is not bool or type(doc["domain"]) is not str:
        raise ValueError
    consent = replace(token.read(bytes.fromhex(doc["token"])), chain=tuple(map(bytes.fromhex, doc.get("chain", ()))))
    for link in consent.chain:
        delegation.read(link)
    return Record(consent, bytes.fromhex(doc["salt"]), doc["domain"], doc["revoked"])


def _delegation(held: HeldDelegation) -> dict[str, object]:
    """A delegation in words, and what it is made of."""
    claims = held.claims
    return {
        "city": claims.audience, "kind": claims.kind, "domains": list(claims.domains), "columns": list(claims.columns),
        "purposes": list(claims.purposes), "loss": _loss(claims.loss), "issued": _time(claims.issued),
        "expires": _time(claims.expires), "handover": _time(claims.handover), "given": held.given, "whom": held.whom,
        "revoked": held.revoked, "chain": [link.hex() for link in held.chain], "salt": held.salt.hex(),
    }  # fmt: skip


def _read_delegation(doc: Mapping[str, Any]) -> HeldDelegation:
    if type(doc["revoked"]) is not bool or type(doc["given"]) is not bool or type(doc["whom"]) is not str:
        raise ValueError
    chain = tuple(map(bytes.fromhex, doc["chain"]))
    for link in chain:
        delegation.read(link)
    return HeldDelegation(chain, doc["given"], bytes.fromhex(doc["salt"]), doc["whom"], doc["revoked"])


def _time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
