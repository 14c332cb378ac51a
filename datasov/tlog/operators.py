"""What an operator says of itself in the log: who signs from now on, that a copy was put back. docs/spec/operators.md.

A log's origin follows from the key that founded it. Each later key is named by a statement in the log that the key
before it and the new one have both signed: whoever holds any of these keys can follow them to the one that signs now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from datasov.crypto.sign import SigningKey, check_public
from datasov.errors import InvalidQueryError, ProofError, VerificationError
from datasov.model.consent import CityId
from datasov.tlog.leaves import NoticeLeaf, decode_leaf
from datasov.tlog.note import origin_of
from datasov.wire import cbor, cose, fields

SUBJECT = "operator"
_SUCCESSION, _ACCEPTANCE, _RESTORATION = (
    "datasov succession v1", "datasov succession accepted v1", "datasov restoration v1",
)  # fmt: skip
_MAX_ID, _MAX_ORIGIN, _MAX_STATEMENT = 256, 128, 4096
_BAD_RESTORATION = "a notice of a restoration that does not verify: keep the log, its operator is at fault"
Appointed = Callable[[bytes], bool]
"""Whether a charter appoints the operator of these bytes, a succession that its predecessor did not sign."""


@dataclass(frozen=True, slots=True)
class Succession:
    """From this leaf of the log on, another key is the city's.

    Attributes:
        origin: of the log.
        old, new: the city's id until now and from now on.
        time: Unix seconds.
        size: leaves in the log before this one; root: of the tree of them, 32 bytes.
        until: Unix seconds until which the city takes what is sealed to the old id.
    """

    origin: str
    old: str
    new: str
    time: int
    size: int
    root: bytes
    until: int


@dataclass(frozen=True, slots=True)
class Restoration:
    """The city went on from a copy whose log had `size` leaves under `root`: what came after that is lost.

    Attributes:
        origin: of the log.
        city: the city's id.
        time: Unix seconds.
    """

    origin: str
    city: str
    time: int
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Operators:
    """The ids that a city has had, as its log tells, oldest first; and the copies that it went on from."""

    ids: tuple[CityId, ...]
    successions: tuple[tuple[int, Succession], ...] = ()
    restorations: tuple[tuple[int, Restoration], ...] = ()

    @property
    def key(self) -> bytes:
        """The key that signs now, 32 bytes."""
        return self.ids[-1].verify_key

    def known(self, city: CityId) -> bool:
        """Whether this is one of the city's ids."""
        keys = {(known.verify_key, known.seal_key) for known in self.ids}
        return (city.verify_key, city.seal_key) in keys


def succession(change: Succession, old: SigningKey | None, new: SigningKey) -> NoticeLeaf:
    """The notice of a change of keys, signed by both; without the old key it holds only where a charter appoints.

    Raises:
        VerificationError: a field of a wrong type or size.
    """
    payload = cbor.encode(
        {
            1: change.origin,
            2: change.old,
            3: change.new,
            4: change.time,
            5: change.size,
            6: change.root,
            7: change.until,
        }
    )
    if _succession(payload) != change:
        raise VerificationError("the statement does not read back as it was written: give the declared types")
    accepted = cose.sign1(payload, new, _ACCEPTANCE)
    body = cbor.encode([_SUCCESSION, cose.sign1(payload, old, _SUCCESSION) if old else b"", accepted])
    return NoticeLeaf(SUBJECT, change.time, cose.digest1(accepted, _ACCEPTANCE), body)


def restoration(found: Restoration, key: SigningKey) -> NoticeLeaf:
    """The notice that a copy was put back, signed."""
    signed = cose.sign1(
        cbor.encode({1: found.origin, 2: found.city, 3: found.time, 4: found.size, 5: found.root}), key, _RESTORATION
    )
    return NoticeLeaf(SUBJECT, found.time, cose.digest1(signed, _RESTORATION), cbor.encode([_RESTORATION, signed]))


def follow(
    notices: Iterable[tuple[int, NoticeLeaf]],
    origin: str,
    held: Iterable[CityId],
    *,
    appointed: Appointed | None = None,
) -> Operators:
    """The ids of a city whose log has this origin, from what stands in the log, by index, in order.

    Args:
        held: ids that somebody holds: the one that founded the log is among them where no key was ever changed.
        appointed: for a succession without its predecessor's signature; called with the statement's bytes.

    Raises:
        ProofError: no id leads to this log, or a statement is not signed, or out of place: the log is at fault.
    """
    ids: list[CityId] = []
    successions: list[tuple[int, Succession]] = []
    restorations: list[tuple[int, Restoration]] = []
    first = [city for city in held if origin_of(city.verify_key) == origin]
    ids += first[:1]
    for index, leaf in notices:
        if leaf.subject != SUBJECT:
            continue
        kind, signed = _body(leaf)
        if kind == _SUCCESSION:
            change = _verified(leaf, signed, appointed)
            old, new = CityId.parse(change.old), CityId.parse(change.new)
            if not successions and origin_of(old.verify_key) == origin:
                ids = [old]
            if not ids or ids[-1] != old or change.origin != origin or change.size != index or new in ids:
                raise ProofError("a succession out of its place: keep the log, its operator is at fault")
            ids.append(new)
            successions.append((index, change))
        else:
            if not ids:
                ids += [c for c in (_peeked(signed[0]),) if origin_of(c.verify_key) == origin]
            restorations.append((index, _restored(leaf, signed, ids, origin, index)))
    if not ids:
        raise ProofError("not the log of a city whose id you hold: ask that city for its log")
    return Operators(tuple(ids), tuple(successions), tuple(restorations))


def notices(leaves: Sequence[bytes]) -> list[tuple[int, NoticeLeaf]]:
    """The operator's notices among the bytes of leaves, by index."""
    return decoded((index, data) for index, data in enumerate(leaves) if data.startswith(_NOTICE, 1))


def decoded(statements: Iterable[tuple[int, bytes]]) -> list[tuple[int, NoticeLeaf]]:
    """Notices by index, of their leaves' bytes; other leaves are left out. ProofError where bytes are no leaf."""
    found = ((index, decode_leaf(data)) for index, data in statements)
    return [(index, leaf) for index, leaf in found if isinstance(leaf, NoticeLeaf)]


_NOTICE = b"".join(map(cbor.encode, (1, "datasov notice v1", 2, SUBJECT)))


def _body(leaf: NoticeLeaf) -> tuple[str, list[bytes]]:
    try:
        kind, *signed = fields.items(cbor.decode(leaf.body), 2, 3)
        parts = [fields.blob(part, _MAX_STATEMENT) for part in signed]
    except VerificationError:
        raise ProofError("an operator's notice that cannot be read: keep the log, its operator is at fault") from None
    if (kind, len(parts)) not in ((_SUCCESSION, 2), (_RESTORATION, 1)):
        raise ProofError("an operator's notice of an unknown kind: update datasov to read this log")
    return kind, parts


def _verified(leaf: NoticeLeaf, signed: Sequence[bytes], appointed: Appointed | None) -> Succession:
    """The statement, once the new key and the old one have signed it, or a charter appoints it."""
    by_old, by_new = signed
    try:
        payload = cose.peek1(by_new)
        change = _succession(payload)
        old, new = CityId.parse(change.old), CityId.parse(change.new)
        check_public(old.verify_key)
        check_public(new.verify_key)
        cose.open1(by_new, new.verify_key, _ACCEPTANCE)
        if by_old:
            if cose.open1(by_old, old.verify_key, _SUCCESSION) != payload:
                raise VerificationError("two statements")
        elif appointed is None or not appointed(payload):
            raise VerificationError("not signed")
        if leaf.identity != cose.digest1(by_new, _ACCEPTANCE) or leaf.time != change.time:
            raise VerificationError("another identity")
    except (VerificationError, InvalidQueryError):
        raise ProofError(
            "a succession that the key before it did not sign, nor a charter appoint: keep the log, somebody else's "
            "key may have been put in the city's place"
        ) from None
    return change


def _restored(leaf: NoticeLeaf, signed: Sequence[bytes], ids: list[CityId], origin: str, index: int) -> Restoration:
    try:
        if not ids:
            raise VerificationError("no id leads here")
        found = fields.labelled(cbor.decode(cose.open1(signed[0], ids[-1].verify_key, _RESTORATION)), range(1, 6))
        restored = Restoration(
            fields.text(found[1], _MAX_ORIGIN), fields.text(found[2], _MAX_ID),
            fields.integer(found[3], 0, fields.MAX_TIME), fields.integer(found[4], 0, 2**63 - 1),
            fields.octets(found[5], 32),
        )  # fmt: skip
        if (restored.origin, restored.city, restored.size, restored.time) != (origin, str(ids[-1]), index, leaf.time):
            raise VerificationError("out of its place")
        if leaf.identity != cose.digest1(signed[0], _RESTORATION):
            raise VerificationError("another identity")
    except VerificationError:
        raise ProofError(
            "a notice of a restoration that does not verify: keep the log, its operator is at fault"
        ) from None
    return restored


def _peeked(signed: bytes) -> CityId:
    """The id that a restoration names, before any check: only to find the key that must verify it."""
    try:
        found = fields.labelled(cbor.decode(cose.peek1(signed)), range(1, 6))
        return CityId.parse(fields.text(found[2], _MAX_ID))
    except (VerificationError, InvalidQueryError):
        raise ProofError(
            "a notice of a restoration that does not verify: keep the log, its operator is at fault"
        ) from None


def _succession(payload: bytes) -> Succession:
    found = fields.labelled(cbor.decode(payload), range(1, 8))
    return Succession(
        fields.text(found[1], _MAX_ORIGIN), fields.text(found[2], _MAX_ID), fields.text(found[3], _MAX_ID),
        fields.integer(found[4], 0, fields.MAX_TIME), fields.integer(found[5], 0, 2**63 - 1),
        fields.octets(found[6], 32), fields.integer(found[7], 0, fields.MAX_TIME),
    )  # fmt: skip
