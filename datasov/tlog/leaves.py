"""The kinds of leaves, as canonical CBOR: what was released, and which salted hashes were admitted or revoked.

A leaf holds no personal data: a release is told identically to everybody, and admissions and revocations are salted
hashes in padded batches. docs/spec/log.md gives the maps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, cast

from datasov.crypto.kdf import random, sha256
from datasov.crypto.padding import padded
from datasov.errors import InternalError, ProofError, VerificationError
from datasov.model.document import canonical
from datasov.model.privacy import Loss
from datasov.wire import cbor, fields

BATCH = 256
"""Hashes in a batch come in multiples of this."""
MAX_BATCH = 7 * BATCH
"""Hashes in one batch leaf, which then fits a bundle of tiles; :func:`batch_leaves` makes several of more."""
MAX_LEAF = 4 * 1024 * 1024
"""Bytes in a leaf."""
MAX_NOTICE = 2 * 1024 * 1024
"""Bytes in the body of a notice."""
MAX_QUESTION = 1024 * 1024
"""Bytes in the text of a question."""

Table: TypeAlias = tuple[str, bytes, tuple[str, ...]]
"""Name, digest of the schema (32 bytes), names of the columns that the question reads."""
BatchKind: TypeAlias = Literal["admissions", "revocations"]

_RELEASE, _STEP, _BATCH = "datasov release v1", "datasov step v1", "datasov batch v1"
_NOTICE = "datasov notice v1"
_BATCH_KINDS = ("admissions", "revocations")


@dataclass(frozen=True, slots=True)
class ReleaseLeaf:
    """What a city says, to everybody alike, about one release. It tells nothing of who or how many contributed.

    Attributes:
        purpose: as in the consents.
        tables: the event table first, those joined to it, then those that derived columns were computed from.
        question: canonical JSON of the query's document (datasov.model.document.canonical).
        query_digest: SHA-256 of `question`, 32 bytes.
        mechanism: name of the noise, for instance "discrete-gaussian".
        loss: with its measure.
        trust: name of the trust model.
        epoch: the public data epoch.
        time: Unix seconds.
        result_digest: SHA-256 of the released document, 32 bytes.
        release_id: 16 bytes.
        programme: digest of the approved programme, 32 bytes, or empty where the charter leaves the question open.
        status: digest of the set of status lists that was applied, 32 bytes, or empty where there is none yet.
    """

    purpose: str
    tables: tuple[Table, ...]
    question: bytes
    query_digest: bytes
    mechanism: str
    loss: Loss
    trust: str
    epoch: int
    time: int
    result_digest: bytes
    release_id: bytes
    programme: bytes = b""
    status: bytes = b""

    def document(self) -> dict[str, Any]:
        """The question as a document, for datasov.model.query.query_from_document.

        Of a series it has a further member "series": datasov.model.series.series_from_document reads that.
        """
        return cast(dict[str, Any], json.loads(self.question))

    @property
    def standing(self) -> bool:
        """Whether it opens a series: its steps, from `time` on, draw on whoever consents then."""
        return "series" in self.document()


@dataclass(frozen=True, slots=True)
class StepLeaf:
    """One step of a series whose opening is a release in this log. The opening's loss is that of all steps together.

    Attributes:
        release_id: of the opening, 16 bytes.
        step: its number, from 0.
        time: Unix seconds.
        result_digest: SHA-256 of the step's output, 32 bytes.
        status: digest of the set of status lists that was applied, 32 bytes, or empty where there is none yet.
    """

    release_id: bytes
    step: int
    time: int
    result_digest: bytes
    status: bytes = b""


@dataclass(frozen=True, slots=True)
class BatchLeaf:
    """The salted hashes of what was admitted, or revoked, in the ticks from `first_tick` to `last_tick`, padded.

    `hashes` ascend and are a multiple of :data:`BATCH`; a decoy is a random hash and cannot be told from the others.
    """

    kind: BatchKind
    first_tick: int
    last_tick: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NoticeLeaf:
    """A public document that everybody who reads the log must be able to see: a charter, a programme, an erasure.

    Attributes:
        subject: what kind of document; who reads it must know the kind, the log does not.
        time: Unix seconds at which it entered.
        identity: of the document, 32 bytes: what releases and other documents refer to it by.
        body: the document itself, with its signatures. No personal data.
    """

    subject: str
    time: int
    identity: bytes
    body: bytes


def pad_batch(hashes: Iterable[bytes]) -> tuple[bytes, ...]:
    """The 32-byte hashes and random decoys, ascending: a multiple of 256, above zero, and drawn (`crypto.padding`).

    Raises:
        InternalError: a hash is of another length or stands twice.
    """
    real = list(hashes)
    if any(len(h) != 32 for h in real) or len(set(real)) != len(real):
        raise InternalError("a batch holds distinct hashes of 32 bytes: please report it")
    missing = padded(len(real)) - len(real)
    return tuple(sorted(real + [random(32) for _ in range(missing)]))


def batch_leaves(kind: BatchKind, first_tick: int, last_tick: int, hashes: Iterable[bytes]) -> tuple[BatchLeaf, ...]:
    """The padded hashes of one batch in as many leaves as they need, at least one.

    All are padded and sorted before they are parted: decoys stand anywhere, not in the last leaf alone.
    """
    padded = pad_batch(hashes)
    parts = (padded[i : i + MAX_BATCH] for i in range(0, len(padded), MAX_BATCH))
    return tuple(BatchLeaf(kind, first_tick, last_tick, part) for part in parts)


Leaf: TypeAlias = ReleaseLeaf | StepLeaf | BatchLeaf | NoticeLeaf


def encode_leaf(leaf: Leaf) -> bytes:
    """The bytes of a leaf; ProofError where a field is not as its class says."""
    try:
        data = cbor.encode(_map(leaf))
    except VerificationError as error:
        raise ProofError(f"not a leaf: {error}") from None
    if decode_leaf(data) != leaf:
        raise ProofError("the leaf does not read back as it was written: give values of the declared types")
    return data


def _map(leaf: Leaf) -> dict[int, Any]:
    if isinstance(leaf, StepLeaf):
        return {
            1: _STEP, 2: leaf.release_id, 3: leaf.step, 4: leaf.time, 5: leaf.result_digest,
            **({6: leaf.status} if leaf.status else {}),
        }  # fmt: skip
    if isinstance(leaf, NoticeLeaf):
        return {1: _NOTICE, 2: leaf.subject, 3: leaf.time, 4: leaf.identity, 5: leaf.body}
    return _batch_map(leaf) if isinstance(leaf, BatchLeaf) else _release_map(leaf)


def _release_map(leaf: ReleaseLeaf) -> dict[int, Any]:
    optional = {13: leaf.programme, 14: leaf.status}
    return {
        1: _RELEASE, 2: leaf.purpose, 3: [[t, d, list(c)] for t, d, c in leaf.tables],
        4: leaf.question, 5: leaf.query_digest, 6: leaf.mechanism, 7: fields.loss_map(leaf.loss),
        8: leaf.trust, 9: leaf.epoch, 10: leaf.time, 11: leaf.result_digest, 12: leaf.release_id,
        **{label: value for label, value in optional.items() if value},
    }  # fmt: skip


def _batch_map(leaf: BatchLeaf) -> dict[int, Any]:
    return {1: _BATCH, 2: leaf.kind, 3: leaf.first_tick, 4: leaf.last_tick, 5: b"".join(leaf.hashes)}


def decode_leaf(data: bytes) -> Leaf:
    """The leaf of the bytes, read strictly.

    Raises:
        ProofError: not canonical, of an unknown kind, or with a field unknown, missing or out of range.
    """
    if not isinstance(data, bytes) or len(data) > MAX_LEAF:
        raise ProofError("not a leaf of this log: ask the log for its leaves again")
    try:
        value = cbor.decode(data)
        kind = value.get(1) if type(value) is dict else None
        if kind == _RELEASE:
            return _release(value)
        if kind == _STEP:
            return _step(value)
        if kind == _BATCH:
            return _batch(value)
        if kind == _NOTICE:
            return _notice(value)
    except ProofError:
        raise
    except VerificationError as error:
        raise ProofError(f"not a leaf of this log: {error}") from None
    raise ProofError("a leaf of an unknown kind: update datasov to read this log")


def _release(value: object) -> ReleaseLeaf:
    found = fields.labelled(value, range(1, 13), (13, 14))
    question, query_digest = fields.blob(found[4], MAX_QUESTION), fields.octets(found[5], 32)
    if sha256(question) != query_digest:
        raise ProofError("a release whose question has another digest: keep the leaf, the log is at fault")
    _check_question(question)
    tables = tuple(_table(item) for item in fields.items(found[3], 1, 16))
    fields.distinct([table for table, _, _ in tables])
    return ReleaseLeaf(
        purpose=fields.text(found[2], 128), tables=tables, question=question, query_digest=query_digest,
        mechanism=fields.text(found[6], 64), loss=fields.read_loss(found[7]), trust=fields.text(found[8], 64),
        epoch=fields.integer(found[9], 0, 2**32 - 1), time=fields.integer(found[10], 0, fields.MAX_TIME),
        result_digest=fields.octets(found[11], 32), release_id=fields.octets(found[12], 16),
        programme=fields.octets(found[13], 32) if 13 in found else b"",
        status=fields.octets(found[14], 32) if 14 in found else b"",
    )  # fmt: skip


def _table(value: object) -> Table:
    parts = fields.items(value, 3, 3)
    columns = fields.distinct([fields.name(c) for c in fields.items(parts[2], 0, 1024)])
    return fields.name(parts[0]), fields.octets(parts[1], 32), columns


def _check_question(question: bytes) -> None:
    try:
        document = json.loads(question, parse_float=_refuse, parse_constant=_refuse)
        same = type(document) is dict and canonical(document) == question
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ProofError("a question that is not canonical JSON: ask the log for its leaves again")


def _refuse(_: str) -> None:
    raise ValueError("floating point")


def _step(value: object) -> StepLeaf:
    found = fields.labelled(value, range(1, 6), (6,))
    return StepLeaf(
        fields.octets(found[2], 16), fields.integer(found[3], 0, 2**32 - 1),
        fields.integer(found[4], 0, fields.MAX_TIME), fields.octets(found[5], 32),
        fields.octets(found[6], 32) if 6 in found else b"",
    )  # fmt: skip


def _notice(value: object) -> NoticeLeaf:
    found = fields.labelled(value, range(1, 6))
    return NoticeLeaf(
        fields.text(found[2], 64), fields.integer(found[3], 0, fields.MAX_TIME),
        fields.octets(found[4], 32), fields.blob(found[5], MAX_NOTICE),
    )  # fmt: skip


def _batch(value: object) -> BatchLeaf:
    found = fields.labelled(value, range(1, 6))
    if found[2] not in _BATCH_KINDS:
        raise ProofError("a batch of an unknown kind: update datasov to read this log")
    first, last = (fields.integer(found[label], 0, 2**63 - 1) for label in (3, 4))
    joined = fields.blob(found[5], MAX_BATCH * 32)
    hashes = tuple(joined[i : i + 32] for i in range(0, len(joined), 32))
    if first > last or not joined or len(joined) % (32 * BATCH):
        raise ProofError("a batch that is not padded or not in order: keep the leaf, the log is at fault")
    if any(a >= b for a, b in pairwise(hashes)):
        raise ProofError("a batch that does not ascend: keep the leaf, the log is at fault")
    return BatchLeaf(found[2], first, last, hashes)
