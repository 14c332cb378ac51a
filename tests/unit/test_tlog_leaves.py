"""Leaves: what they hold, and that nothing else is read."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

import datasov.model.columns as c
from datasov.crypto import padding
from datasov.errors import InternalError, ProofError
from datasov.model.document import canonical
from datasov.model.privacy import MAX_NANO, Loss, zcdp
from datasov.model.query import query, query_from_document
from datasov.model.schema import Schema
from datasov.tlog.leaves import (
    BATCH,
    MAX_BATCH,
    MAX_LEAF,
    MAX_NOTICE,
    BatchLeaf,
    NoticeLeaf,
    ReleaseLeaf,
    batch_leaves,
    decode_leaf,
    encode_leaf,
    pad_batch,
)
from datasov.wire import cbor

TRIPS = Schema(
    "trips",
    domain="mobility",
    columns={"district": c.Category(["N", "E"]), "km": c.Integer(0, 50)},
    keys=[("district",)],
)
QUERY = query(TRIPS).keys("district").bound(rows=20, keys=2).count().sum("km")
QUESTION = canonical(QUERY.document())
RELEASE = ReleaseLeaf(
    purpose="bus-planning", tables=(("trips", TRIPS.digest, ("district", "km")),), question=QUESTION,
    query_digest=QUERY.digest, mechanism="discrete-gaussian", loss=zcdp(rho=0.02), trust="central", epoch=3,
    time=1_790_000_000, result_digest=b"\x05" * 32, release_id=b"\x06" * 16,
)  # fmt: skip
BATCH_LEAF = BatchLeaf("admissions", 7, 9, tuple(i.to_bytes(32, "big") for i in range(BATCH)))
NOTICE = NoticeLeaf("programme", 1_790_000_000, b"\x09" * 32, b"a signed document")


@pytest.mark.parametrize(
    "leaf", [RELEASE, replace(RELEASE, programme=b"\x07" * 32, status=b"\x08" * 32), BATCH_LEAF,
             replace(BATCH_LEAF, kind="revocations"), NOTICE, replace(NOTICE, body=b"")],
)  # fmt: skip
def test_a_leaf_comes_back(leaf):
    assert decode_leaf(encode_leaf(leaf)) == leaf


def test_a_release_tells_its_loss_and_its_question():
    assert RELEASE.loss == zcdp(rho=0.02)
    assert query_from_document(RELEASE.document(), {TRIPS.digest: TRIPS}) == QUERY


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": ""}, {"purpose": "a\nb"}, {"purpose": "x" * 129}, {"tables": ()}, {"tables": RELEASE.tables * 2},
        {"tables": (("1trips", bytes(32), ()),)}, {"tables": (("trips", bytes(31), ()),)},
        {"tables": (("trips", bytes(32), ("km", "km")),)},
        {"tables": tuple((f"t{i}", bytes(32), ()) for i in range(17))},
        {"question": QUESTION + b" "}, {"query_digest": bytes(32)}, {"query_digest": b""}, {"mechanism": ""},
        {"loss": Loss(0)}, {"loss": Loss(-1)}, {"loss": Loss(MAX_NANO + 1)}, {"loss": Loss(True)}, {"loss": Loss(0.5)},
        {"loss": Loss(1, "x")}, {"loss": Loss(1, "pure", 1)}, {"loss": Loss(1, "zcdp", -1)},
        {"trust": 1}, {"epoch": -1}, {"epoch": 2**32}, {"time": -1}, {"time": 1.5}, {"result_digest": b"short"},
        {"release_id": bytes(15)}, {"programme": bytes(31)}, {"status": b"x"},
    ],
)  # fmt: skip
def test_a_release_with_a_wrong_field_is_not_written(change):
    with pytest.raises(ProofError):
        encode_leaf(replace(RELEASE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""}, {"subject": "x" * 65}, {"subject": "a\n"}, {"time": -1}, {"time": True}, {"identity": b""},
        {"identity": bytes(33)}, {"body": "text"}, {"body": bytes(MAX_NOTICE + 1)},
    ],
)  # fmt: skip
def test_a_notice_with_a_wrong_field_is_not_written(change):
    with pytest.raises(ProofError):
        encode_leaf(replace(NOTICE, **change))


@pytest.mark.parametrize(
    "question", [b"", b"[]", b"{}  ", b'{"b":1,"a":2}', b'{"a":1.0}', b'{"a":NaN}', b'{"a":1,"a":1}',
                 b'{"a":"\\u0061"}',
                 b"\xff", b'{"a":"\\ud800"}', '{"a":1}'.encode("utf-16"), b"[" * 5000, b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_question_has_one_spelling(question):
    with pytest.raises(ProofError):
        encode_leaf(replace(RELEASE, question=question, query_digest=sha256(question).digest()))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "enrolments"}, {"first_tick": 10}, {"first_tick": -1}, {"last_tick": 2**63}, {"last_tick": True},
        {"hashes": ()}, {"hashes": BATCH_LEAF.hashes[:-1]}, {"hashes": BATCH_LEAF.hashes[::-1]},
        {"hashes": (*BATCH_LEAF.hashes[:-1], BATCH_LEAF.hashes[-2])},
        {"hashes": (b"", *BATCH_LEAF.hashes[1:], bytes(32))}, {"hashes": BATCH_LEAF.hashes * 2},
    ],
)  # fmt: skip
def test_a_batch_with_a_wrong_field_is_not_written(change):
    with pytest.raises(ProofError):
        encode_leaf(replace(BATCH_LEAF, **change))


def test_unknown_kinds_fields_and_spellings_are_refused():
    for leaf in (RELEASE, BATCH_LEAF):
        good = cbor.decode(encode_leaf(leaf))
        without = [{k: v for k, v in good.items() if k != label} for label in good]
        extra = [{**good, label: 1} for label in (0, 15, 16, -1, "purpose", b"")]
        kinds = [{**good, 1: kind} for kind in ("datasov release v2", "", 1, None, [])]
        for value in [
            *without,
            *extra,
            *kinds,
            [good],
            None,
            {True: good[1], **{k: v for k, v in good.items() if k > 1}},
        ]:
            with pytest.raises(ProofError):
                decode_leaf(cbor.encode(value))
        raw = encode_leaf(leaf)
        for data in (raw + b"\x00", raw[:-1], b"", raw.decode("latin-1"), bytes(MAX_LEAF + 1)):
            with pytest.raises(ProofError):
                decode_leaf(data)


def test_a_loss_of_another_unit_adjacency_measure_or_delta_is_refused():
    good = cbor.decode(encode_leaf(RELEASE))
    for label, value in (
        (1, "puredp"),
        (1, 1),
        (3, 10**16 + 1),
        (3, -1),
        (3, False),
        (4, "replace-one"),
        (5, "row"),
        (6, 0),
    ):
        with pytest.raises(ProofError):
            decode_leaf(cbor.encode({**good, 7: {**good[7], label: value}}))


@pytest.mark.parametrize(
    ("real", "drawn", "padded"),
    [(0, 0, 256), (1, 255, 256), (255, 1, 256), (256, 0, 256), (256, 1, 512), (0, 257, 512), (600, 168, 768)],
)
def test_a_batch_is_padded_and_sorted_and_keeps_every_hash(monkeypatch, real, drawn, padded):
    monkeypatch.setattr(padding, "decoys", lambda: drawn)
    hashes = [sha256(i.to_bytes(4, "big")).digest() for i in range(real)]
    found = pad_batch(hashes)
    assert len(found) == len(set(found)) == padded
    assert list(found) == sorted(found)
    assert set(hashes) <= set(found)
    assert len(set(pad_batch(hashes)) & set(found)) == real, "decoys are drawn anew"


def test_a_hash_twice_or_of_another_length_is_refused():
    for hashes in ([bytes(32)] * 2, [bytes(31)]):
        with pytest.raises(InternalError):
            pad_batch(hashes)


def test_a_large_batch_is_padded_before_it_is_parted(monkeypatch):
    monkeypatch.setattr(padding, "decoys", lambda: 0)
    hashes = {sha256(i.to_bytes(4, "big")).digest() for i in range(MAX_BATCH + 1)}
    first, second = batch_leaves("admissions", 1, 1, hashes)
    assert (len(first.hashes), len(second.hashes)) == (MAX_BATCH, BATCH)
    assert first.hashes[-1] < second.hashes[0]
    assert hashes <= {*first.hashes, *second.hashes}
    assert decode_leaf(encode_leaf(first)) == first
    assert hashes & set(second.hashes), "real hashes stand in the last leaf too"
    assert len(batch_leaves("revocations", 1, 1, ())) == 1
