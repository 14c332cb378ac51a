"""The tree against the recursive definitions of RFC 6962, section 2.1, and RFC 9162's published roots."""

from __future__ import annotations

import hashlib

import pytest

from datasov.errors import ProofError
from datasov.tlog.tree import EMPTY, Tree, leaf_hash, node_hash, verify_consistency, verify_inclusion

HASHES = [leaf_hash(bytes([i])) for i in range(70)]


def definition(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, word for word."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + definition(hashes[:k]) + definition(hashes[k:])).digest()


def test_roots_of_the_certificate_transparency_reference_leaves():
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    tree = Tree(leaf_hash(bytes.fromhex(leaf)) for leaf in leaves)
    assert tree.root(0).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert tree.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root(8).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_root_and_every_proof_up_to_seventy_leaves():
    tree = Tree(HASHES)
    assert tree.size == 70
    for size in range(71):
        root = tree.root(size)
        assert root == definition(HASHES[:size])
        for index in range(size):
            verify_inclusion(HASHES[index], index, size, tree.inclusion(index, size), root)
        for old in range(1, size + 1):
            verify_consistency(old, size, tree.root(old), root, tree.consistency(old, size))


def test_a_tree_of_an_earlier_size_is_still_told_after_it_has_grown():
    tree = Tree(HASHES[:5])
    before = tree.root(), tree.inclusion(3, 5)
    for hash_ in HASHES[5:]:
        tree.append(hash_)
    assert (tree.root(5), tree.inclusion(3, 5)) == before


@pytest.mark.parametrize("size", [-1, 4, True, 2.0, "3"])
def test_sizes_that_the_tree_has_not_are_refused(size):
    tree = Tree(HASHES[:3])
    with pytest.raises(ProofError, match="size"):
        tree.root(size)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 4)])
def test_leaves_that_the_tree_has_not_have_no_proof(index, size):
    with pytest.raises(ProofError):
        Tree(HASHES[:3]).inclusion(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (0, 0), (3, 2), (1, 4), (-1, 2)])
def test_sizes_out_of_order_have_no_consistency_proof(old, new):
    with pytest.raises(ProofError):
        Tree(HASHES[:3]).consistency(old, new)


@pytest.mark.parametrize("hash_", [b"", b"x" * 31, b"x" * 33, "x" * 32])
def test_hashes_that_are_not_32_bytes_are_refused_everywhere(hash_):
    tree = Tree(HASHES[:4])
    root, proof = tree.root(), tree.inclusion(1, 4)
    with pytest.raises(ProofError, match="32 bytes"):
        tree.append(hash_)
    assert tree.size == 4
    for arguments in (
        (hash_, 1, 4, proof, root),
        (HASHES[1], 1, 4, [hash_, proof[1]], root),
        (HASHES[1], 1, 4, proof, hash_),
    ):
        with pytest.raises(ProofError, match="32 bytes"):
            verify_inclusion(*arguments)
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(2, 4, hash_, root, tree.consistency(2, 4))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (True, 2), (0, True), (0, 2**63), (0.0, 1)])
def test_an_index_or_a_size_out_of_range_is_refused(index, size):
    with pytest.raises(ProofError):
        verify_inclusion(HASHES[0], index, size, [], HASHES[0])


def test_an_empty_old_tree_shows_nothing():
    with pytest.raises(ProofError):
        verify_consistency(0, 1, EMPTY, HASHES[0], [])


def test_a_leaf_is_never_taken_for_a_node():
    inner = node_hash(HASHES[0], HASHES[1])
    assert leaf_hash(HASHES[0] + HASHES[1]) != inner
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash(HASHES[0] + HASHES[1]), 0, 1, [], inner)


def test_a_proof_deeper_than_the_tree_is_refused_though_its_hashes_meet():
    """A log signs any size and root it likes: a leaf below the depth of a tree of that size is not in it."""
    a, b, c, x = HASHES[:4]
    with pytest.raises(ProofError, match="too long"):
        verify_inclusion(b, 0, 1, [a], node_hash(a, b))
    left = node_hash(a, b)
    old, new = node_hash(x, node_hash(left, c)), node_hash(x, node_hash(left, node_hash(c, x)))
    with pytest.raises(ProofError, match="too long"):
        verify_consistency(3, 4, old, new, [c, x, left, x])


def test_two_roots_of_one_size_are_a_fork():
    with pytest.raises(ProofError, match="different trees"):
        verify_consistency(3, 3, Tree(HASHES[:3]).root(), Tree(HASHES[1:4]).root(), [])


def test_a_rewritten_log_has_no_consistency_proof():
    honest, forged = Tree(HASHES[:9]), Tree([*HASHES[:3], HASHES[40], *HASHES[4:9]])
    old = honest.root(6)
    for proof in (honest.consistency(6, 9), forged.consistency(6, 9)):
        with pytest.raises(ProofError):
            verify_consistency(6, 9, old, forged.root(9), proof)
