"""Trees, notes, receipts and leaves for any input: what is honest verifies, and any change fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasov.crypto.sign import SigningKey
from datasov.errors import ProofError
from datasov.tlog.leaves import decode_leaf, encode_leaf, pad_batch
from datasov.tlog.note import decode_proof, open_checkpoint, open_note, origin_of
from datasov.tlog.receipt import Receipt, receipt
from datasov.tlog.tree import Tree, leaf_hash, verify_consistency, verify_inclusion
from tests.unit.test_tlog_leaves import RELEASE
from tests.unit.test_tlog_log import log_over

KEY = SigningKey(b"\x01" * 32)
ORIGIN = origin_of(KEY.public)
LEAVES = [encode_leaf(replace(RELEASE, epoch=i)) for i in range(11)]
LOG = log_over(LEAVES)
CHECKPOINT = LOG.checkpoint()
RECEIPT = receipt(LOG, 7, CHECKPOINT, KEY.public, ORIGIN)

hashes = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


@given(hashes, st.data())
def test_inclusion_holds_for_the_leaf_and_for_no_other_place_or_size(leaves, data):
    tree = Tree(leaves)
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof, root = tree.inclusion(index, size), tree.root(size)
    verify_inclusion(leaves[index], index, size, proof, root)
    other = data.draw(st.integers(0, size + 3).filter(lambda i: i != index))
    with pytest.raises(ProofError):
        verify_inclusion(leaves[index], other, size, proof, root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        changed = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
        for wrong in ([*proof[:at], changed, *proof[at + 1 :]], proof[:at] + proof[at + 1 :], [*proof, root]):
            with pytest.raises(ProofError):
                verify_inclusion(leaves[index], index, size, wrong, root)


@given(hashes, st.data())
def test_consistency_holds_for_a_prefix_and_for_no_other_tree(leaves, data):
    tree = Tree(leaves)
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(1, new))
    proof = tree.consistency(old, new)
    verify_consistency(old, new, tree.root(old), tree.root(new), proof)
    at = data.draw(st.integers(0, old - 1))
    rewritten = Tree([*leaves[:at], leaf_hash(leaves[at]), *leaves[at + 1 :]])
    for wrong in (proof, rewritten.consistency(old, new)):
        with pytest.raises(ProofError):
            verify_consistency(old, new, tree.root(old), rewritten.root(new), wrong)


@given(st.data())
def test_every_changed_byte_of_a_receipt_fails(data):
    raw = RECEIPT.to_bytes()
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    with pytest.raises(ProofError):
        Receipt.from_bytes(changed).verify(CHECKPOINT)


@given(st.data())
def test_every_changed_byte_of_a_checkpoint_fails(data):
    note = CHECKPOINT.note
    at = data.draw(st.integers(0, len(note) - 1))
    changed = note[:at] + bytes([note[at] ^ data.draw(st.integers(1, 255))]) + note[at + 1 :]
    with pytest.raises(ProofError):
        RECEIPT.verify(changed)
    RECEIPT.verify(note)


@given(st.data())
def test_every_changed_byte_of_a_leaf_is_another_leaf_or_none(data):
    raw = LEAVES[0]
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    try:
        leaf = decode_leaf(changed)
    except ProofError:
        return
    assert leaf != RELEASE
    assert encode_leaf(leaf) == changed


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace"))))
def test_no_bytes_break_a_reader(junk):
    for read in (
        decode_leaf, decode_proof, Receipt.from_bytes,
        lambda b: open_note(b, ORIGIN, KEY.public), lambda b: open_checkpoint(b, ORIGIN, KEY.public),
    ):  # fmt: skip
        with pytest.raises(ProofError):
            read(junk)


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=600))
def test_a_padded_batch_tells_only_how_many_steps_of_256_it_fills(real):
    padded = pad_batch(real)
    assert len(padded) % 256 == 0 < len(padded) - len(real) < 400 + 256 or not len(padded) - len(real)
    assert real <= set(padded)
    assert list(padded) == sorted(set(padded))
