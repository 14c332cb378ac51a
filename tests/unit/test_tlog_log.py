"""The log over a growing stream, and receipts against its checkpoints."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from datasov.crypto.sign import SigningKey
from datasov.errors import ProofError
from datasov.model.privacy import Loss, zcdp
from datasov.tlog.leaves import encode_leaf
from datasov.tlog.log import Log, LogReader
from datasov.tlog.note import Checkpoint, decode_proof, open_checkpoint, origin_of, sign_checkpoint
from datasov.tlog.receipt import Receipt, receipt
from datasov.tlog.tree import EMPTY, Tree, leaf_hash, verify_consistency, verify_inclusion
from tests.helpers import MemoryStore
from tests.unit.test_tlog_leaves import BATCH_LEAF, QUESTION, RELEASE

KEY, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
ORIGIN = origin_of(KEY.public)
LEAVES = [encode_leaf(replace(RELEASE, epoch=i)) for i in range(6)]


def log_over(stored: list[bytes], key: SigningKey = KEY, origin: str = ORIGIN) -> Log:
    store = MemoryStore()
    store.streams["log"] = stored
    return Log(store, key, origin)


def opened(reader: LogReader, key: SigningKey = KEY) -> Checkpoint:
    return open_checkpoint(reader.checkpoint().note, origin_of(key.public), key.public)


def test_an_empty_log_signs_the_empty_root():
    log = log_over([])
    assert (log.size, log.leaves()) == (0, [])
    assert (opened(log).size, opened(log).root) == (0, EMPTY)


def test_what_is_appended_to_the_stream_shows_at_once_and_consistently():
    stored = LEAVES[:3]
    log = log_over(stored)
    before = opened(log)
    stored += LEAVES[3:]
    after = opened(log)
    assert (before.size, after.size, log.size) == (3, 6, 6)
    verify_consistency(3, 6, before.root, after.root, log.consistency(3, 6))
    verify_inclusion(leaf_hash(LEAVES[4]), 4, 6, log.inclusion(4, 6), after.root)
    verify_inclusion(leaf_hash(LEAVES[1]), 1, 3, log.inclusion(1, 3), before.root)
    assert after.root == Tree(map(leaf_hash, log.leaves(0, after.size))).root()
    assert log.checkpoint() == after


def test_proofs_reach_leaves_that_were_stored_after_the_last_look():
    stored = LEAVES[:1]
    log = log_over(stored)
    assert log.size == 1
    stored.append(LEAVES[1])
    assert len(log.inclusion(1, 2)) == 1
    stored.append(LEAVES[2])
    assert log.consistency(2, 3) == [leaf_hash(LEAVES[2])]


def test_leaves_are_told_by_range():
    log = log_over(LEAVES)
    assert log.leaves() == log.leaves(0) == log.leaves(0, 6) == LEAVES
    assert log.leaves(2, 4) == LEAVES[2:4]
    assert log.leaves(6) == log.leaves(3, 3) == []
    for start, end in ((-1, 2), (3, 2), (5, 7)):
        with pytest.raises(ProofError):
            log.leaves(start, end)


def test_threads_that_refresh_at_once_hash_every_leaf_once():
    class Slow(MemoryStore):
        def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
            found = super().read(stream, after, limit)
            time.sleep(0.02)
            return found

    store, seen = Slow(), []
    store.streams["log"] = LEAVES * 50
    log = Log(store, KEY, ORIGIN)
    threads = [threading.Thread(target=lambda: seen.append(log.checkpoint())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {c.root for c in seen} == {Tree(map(leaf_hash, LEAVES * 50)).root()}


def test_two_residents_detect_a_fork():
    shown = [opened(log_over(LEAVES[:4])), opened(log_over([*LEAVES[:3], LEAVES[5]]))]
    with pytest.raises(ProofError, match="different trees"):
        verify_consistency(4, 4, shown[0].root, shown[1].root, [])


def test_a_receipt_verifies_and_tells_what_was_asked():
    log = log_over(LEAVES)
    found = receipt(log, 4, log.checkpoint(), KEY.public, ORIGIN)
    found.verify(log.checkpoint())
    found.verify(log.checkpoint().note)
    assert (found.purpose, found.loss, found.time) == ("bus-planning", zcdp(rho=0.02), RELEASE.time)
    assert found.question == QUESTION.decode()
    assert found.release == replace(RELEASE, epoch=4)
    assert Receipt.from_bytes(found.to_bytes()) == found


def test_the_only_leaf_has_a_receipt_without_a_path():
    log = log_over(LEAVES[:1])
    found = receipt(log, 0, log.checkpoint(), KEY.public, ORIGIN)
    assert found.proof == ()
    assert Receipt.from_bytes(found.to_bytes()) == found


def test_a_receipt_as_a_tlog_proof():
    log = log_over(LEAVES)
    found = receipt(log, 2, log.checkpoint(), KEY.public, ORIGIN)
    proof = decode_proof(found.tlog_proof(log.checkpoint()))
    signed = open_checkpoint(proof.note, ORIGIN, KEY.public)
    verify_inclusion(leaf_hash(proof.extra), proof.index, signed.size, proof.hashes, signed.root)


def test_a_receipt_of_another_size_says_to_fetch_it_again():
    stored = LEAVES[:3]
    log = log_over(stored)
    found = receipt(log, 1, log.checkpoint(), KEY.public, ORIGIN)
    stored += LEAVES[3:]
    with pytest.raises(ProofError, match="fetch the receipt again"):
        found.verify(log.checkpoint())
    receipt(log, 1, log.checkpoint(), KEY.public, ORIGIN).verify(log.checkpoint())


def test_what_a_checkpoint_object_claims_beside_its_note_does_not_count():
    log, forged = log_over(LEAVES), log_over([*LEAVES[:5], b"forged"], OTHER)
    found = receipt(log, 4, log.checkpoint(), KEY.public, ORIGIN)
    lie = replace(forged.checkpoint(), root=log.checkpoint().root, origin=ORIGIN)
    with pytest.raises(ProofError):
        found.verify(lie)


@pytest.mark.parametrize(
    "change",
    [
        {"leaf": LEAVES[3]}, {"leaf": b""}, {"index": 3}, {"index": 5}, {"index": 6}, {"index": -1}, {"size": 5},
        {"size": 7}, {"proof": ()}, {"public": OTHER.public}, {"public": b"\x01" + bytes(31)}, {"public": b""},
        {"origin": "example.com"}, {"origin": ""},
    ],
)  # fmt: skip
def test_a_receipt_with_a_changed_field_fails(change):
    log = log_over(LEAVES)
    found = receipt(log, 4, log.checkpoint(), KEY.public, ORIGIN)
    with pytest.raises(ProofError):
        replace(found, **change).verify(log.checkpoint())


def test_a_batch_has_no_receipt():
    log = log_over([*LEAVES, encode_leaf(BATCH_LEAF)])
    with pytest.raises(ProofError, match="records no release"):
        receipt(log, 6, log.checkpoint(), KEY.public, ORIGIN)


@pytest.mark.parametrize("index", [-1, 6])
def test_there_is_no_receipt_beyond_the_checkpoint(index):
    log = log_over(LEAVES)
    with pytest.raises(ProofError, match="no such leaf"):
        receipt(log, index, log.checkpoint(), KEY.public, ORIGIN)


def test_a_log_that_lies_to_a_resident_is_caught():
    class Liar(Log):
        def leaves(self, start: int = 0, end: int | None = None) -> list[bytes]:
            return [encode_leaf(replace(RELEASE, loss=Loss(1)))]

    honest = log_over(LEAVES)
    store = MemoryStore()
    store.streams["log"] = LEAVES
    liar = Liar(store, KEY, ORIGIN)
    with pytest.raises(ProofError):
        receipt(liar, 2, honest.checkpoint(), KEY.public, ORIGIN)
    with pytest.raises(ProofError):
        receipt(honest, 2, sign_checkpoint(ORIGIN, 6, bytes(32), OTHER), KEY.public, ORIGIN)


def test_malformed_receipts_are_refused():
    log = log_over(LEAVES)
    data = receipt(log, 4, log.checkpoint(), KEY.public, ORIGIN).to_bytes()
    for bad in (
        b"", data[:-1], data + b"\n", data[1:], data.replace(b"index 4", b"index 04"), data.replace(b"\n\n", b"\n"),
        data.replace(b"extra ", b"Extra "), data.replace(ORIGIN.encode(), b"x", 1), b"\xff" + data,
        data.replace(b"\n6\n", b"\n06\n"), data.replace(b"\n", b"\r\n"), data.replace(b"@v1", b"@v2"), data * 2,
    ):  # fmt: skip
        with pytest.raises(ProofError):
            Receipt.from_bytes(bad)
