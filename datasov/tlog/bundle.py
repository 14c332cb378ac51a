"""Receipts in one file, to be verified offline by whoever holds one of the city's ids. docs/spec/log.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from datasov.errors import DatasovError, ProofError, VerificationError
from datasov.model.consent import CityId
from datasov.tlog.leaves import MAX_LEAF, NoticeLeaf, decode_leaf
from datasov.tlog.note import MAX_NOTE, Checkpoint, open_checkpoint, peek_checkpoint
from datasov.tlog.operators import Appointed, Operators, follow, notices
from datasov.tlog.receipt import Approval, Receipt
from datasov.tlog.tree import leaf_hash, verify_consistency, verify_inclusion
from datasov.tlog.whole import Whole
from datasov.wire import cbor, fields

KIND = "datasov receipts v1"
MAX_BUNDLE = 1024 * 1024 * 1024
"""Bytes in a bundle."""
_MANY = 10_000_000


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, verified.

    Attributes:
        checkpoint: that all receipts are proved against, its note with every cosignature that the log gave.
        operators: the city's ids up to the one that signed it.
        receipts: in the log's order.
        consents: identities of consents, 32 bytes each, that its maker says covered them; nothing proves it.
    """

    checkpoint: Checkpoint
    operators: Operators
    receipts: tuple[Receipt, ...]
    consents: tuple[bytes, ...] = ()


def pack_bundle(whole: Whole, receipts: Iterable[Receipt], consents: Sequence[bytes] = ()) -> bytes:
    """The bytes of a bundle of receipts from this log, each verified; ProofError where one is not from it."""
    size = whole.checkpoint.size
    operators = [
        Statement(i, whole.leaves[i], whole.inclusion(i), tuple(whole.tree.consistency(i, size)) if i else ())
        for i, _ in notices(whole.leaves)
    ]
    return pack(whole.checkpoint, operators, receipts, consents)


@dataclass(frozen=True, slots=True)
class Statement:
    """An operator's notice, its place in the log, and how the tree grew from there; `grown` is empty at index 0."""

    index: int
    leaf: bytes
    proof: tuple[bytes, ...]
    grown: tuple[bytes, ...]


def pack(
    checkpoint: Checkpoint, operators: Iterable[Statement], receipts: Iterable[Receipt], consents: Sequence[bytes] = ()
) -> bytes:
    """As :func:`pack_bundle`, by whoever has the operators' statements and the receipts, and no whole log."""
    kept = sorted(receipts, key=lambda r: r.index)
    for receipt in kept:
        receipt.verify(checkpoint)
    approvals = {r.approval.index: r.approval for r in kept if r.approval is not None}
    return cbor.encode({
        1: KIND, 2: checkpoint.note, 3: [[s.index, s.leaf, list(s.proof), list(s.grown)] for s in operators],
        4: [[a.index, a.leaf, list(a.proof)] for _, a in sorted(approvals.items())],
        5: [[r.index, r.leaf, list(r.proof), r.approval.index if r.approval else None] for r in kept],
        6: sorted(consents),
    })  # fmt: skip


def verify_bundle(data: bytes, city: CityId, *, appointed: Appointed | None = None) -> Bundle:
    """The bundle of these bytes, once everything in it verifies under one of the city's ids, which the reader holds.

    It proves that the log holds what is shown, not that nothing else concerned the resident.

    Raises:
        ProofError: anything does not verify, or is of another city.
    """
    try:
        return _verify(data, city, appointed)
    except ProofError:
        raise
    except DatasovError as why:
        raise ProofError(f"not a bundle of receipts: {why}") from None


def _verify(data: bytes, city: CityId, appointed: Appointed | None) -> Bundle:
    if not isinstance(data, bytes) or len(data) > MAX_BUNDLE:
        raise ProofError("not a bundle of receipts: export it again")
    found = fields.labelled(cbor.decode(data), range(1, 7))
    if found[1] != KIND:
        raise ProofError("not a bundle of receipts: export it again")
    note = fields.blob(found[2], MAX_NOTE)
    origin = peek_checkpoint(note).origin
    changes = [_entry(item, 4) for item in fields.items(found[3], 0, _MANY)]
    operators = follow([(i, _notice(leaf)) for i, leaf, *_ in changes], origin, [city], appointed=appointed)
    if not operators.known(city):
        raise ProofError("receipts of another city: give that city's id")
    checkpoint = open_checkpoint(note, origin, operators.key)
    before = {i: s.root for i, s in operators.successions} | {i: s.root for i, s in operators.restorations}
    if [i for i, *_ in changes] != sorted(before):
        raise ProofError("not an operator's notice, or out of order: export the receipts again")
    for index, leaf, proof, grown in changes:
        verify_inclusion(leaf_hash(leaf), index, checkpoint.size, proof, checkpoint.root)
        if index:
            verify_consistency(index, checkpoint.size, before[index], checkpoint.root, _hashes(grown))
    approvals = {i: Approval(leaf, i, proof) for i, leaf, proof in
                 (_entry(item, 3) for item in fields.items(found[4], 0, _MANY))}  # fmt: skip
    receipts: list[Receipt] = []
    for index, leaf, proof, approved in (_entry(item, 4) for item in fields.items(found[5], 0, _MANY)):
        if receipts and index <= receipts[-1].index:
            raise ProofError("the receipts do not ascend, or one stands twice: export them again")
        approval = None if approved is None else approvals.get(fields.integer(approved, 0, 2**63 - 1))
        if approved is not None and approval is None:
            raise ProofError("a receipt names an approval that the bundle does not hold: export it again")
        receipts.append(Receipt(leaf, index, proof, checkpoint.size, operators.key, origin, approval))
        receipts[-1].verify(checkpoint)
    consents = tuple(fields.octets(c, 32) for c in fields.items(found[6], 0, _MANY))
    return Bundle(checkpoint, operators, tuple(receipts), consents)


def _entry(item: object, parts: int) -> tuple[Any, ...]:
    index, leaf, proof, *rest = fields.items(item, parts, parts)
    return fields.integer(index, 0, 2**63 - 1), fields.blob(leaf, MAX_LEAF), _hashes(proof), *rest


def _hashes(value: object) -> tuple[bytes, ...]:
    return tuple(fields.octets(h, 32) for h in fields.items(value, 0, 128))


def _notice(data: bytes) -> NoticeLeaf:
    leaf = decode_leaf(data)
    if not isinstance(leaf, NoticeLeaf):
        raise VerificationError("an operator's notice is missing: export it again")
    return leaf
