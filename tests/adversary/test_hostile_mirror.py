"""A mirror that lies: whatever it answers is an error, and never another log."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.errors import ProofError
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import sign_checkpoint
from datasov.tlog.tree import Tree, leaf_hash
from tests.logs import KEY, ORIGIN, OTHER, forked, grow, leaf, log_of, served, tiles_of

SIZE = 66_000


@pytest.fixture(scope="module")
def honest() -> dict[str, bytes]:
    return tiles_of(log_of(SIZE))


def everything(reader: TileLog) -> None:
    """All that a reader can be asked that touches every kind of file."""
    size = reader.checkpoint().size
    assert reader.leaves(0, 300) == [leaf(n) for n in range(300)]
    assert reader.leaves(size - 10) == [leaf(n) for n in range(size - 10, size)]
    reader.inclusion(0, size)
    reader.inclusion(size - 1, size)
    reader.consistency(256 * 256 + 3, size)


def test_the_honest_mirror_passes(honest):
    everything(TileLog(served(honest), KEY.public))


USED = (
    "checkpoint", "tile/0/000", "tile/0/257.p/208", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1",
    "tile/entries/000", "tile/entries/001", "tile/entries/257.p/208",
)  # fmt: skip


@pytest.mark.parametrize("name", USED)
@pytest.mark.parametrize("kind", ["missing", "empty", "truncated", "longer", "a bit", "another", "no bytes", "zeros"])
def test_every_lie_in_every_kind_of_file_is_refused(honest, name, kind):
    data = honest[name]
    others = [n for n in honest if n != name and honest[n] != data and n.split("/")[:2] == name.split("/")[:2]]
    lie = {
        "missing": None, "empty": b"", "truncated": data[:-1], "longer": data + b"\x00",
        "a bit": bytes([data[len(data) // 2] ^ 4]).join([data[: len(data) // 2], data[len(data) // 2 + 1 :]]),
        "another": honest[others[0]] if others else data[::-1], "no bytes": "text", "zeros": bytes(len(data)),
    }[kind]  # fmt: skip
    files = {**honest, name: lie}
    if lie is None:
        del files[name]
    with pytest.raises(ProofError):
        everything(TileLog(served(files), KEY.public))  # type: ignore[arg-type]


def test_a_whole_tile_that_is_not_the_one_in_its_place_is_refused(honest):
    """Each tile is checked by the one above: also a true tile of this log, elsewhere in it."""
    with pytest.raises(ProofError, match="does not hash to its place"):
        TileLog(served({**honest, "tile/0/001": honest["tile/0/000"]}), KEY.public).inclusion(300, SIZE)


def test_leaves_that_are_left_out_or_exchanged_are_refused(honest):
    for lie in (honest["tile/entries/001"], honest["tile/entries/000"].replace(b"leaf 7", b"leaf 8", 1)):
        with pytest.raises(ProofError):
            TileLog(served({**honest, "tile/entries/000": lie}), KEY.public).leaves(0, 10)


def test_a_consistent_mirror_of_another_tree_does_not_verify(honest):
    """All tiles of a forked tree, under the honest checkpoint."""
    with pytest.raises(ProofError, match="do not hash to the checkpoint's root"):
        TileLog(served({**tiles_of(forked(SIZE, 5)), "checkpoint": honest["checkpoint"]}), KEY.public).checkpoint()


def test_a_checkpoint_by_another_key_or_of_another_log_is_refused(honest):
    root = Tree(leaf_hash(leaf(n)) for n in range(SIZE)).root()
    for origin, key in ((ORIGIN, OTHER), ("example.com", KEY)):
        note = sign_checkpoint(origin, SIZE, root, key).note
        with pytest.raises(ProofError):
            TileLog(served({**honest, "checkpoint": note}), KEY.public).checkpoint()


def test_an_older_checkpoint_is_refused_by_who_saw_a_newer_one():
    log = log_of(300)
    old = tiles_of(log)
    grow(log, leaf(300))
    new = tiles_of(log)
    with pytest.raises(ProofError, match="shorter"):
        TileLog(served({**new, **old}), KEY.public, seen=new["checkpoint"]).checkpoint()
    files = dict(new)
    reader = TileLog(served(files), KEY.public)
    reader.checkpoint()
    files.update(old)
    with pytest.raises(ProofError, match="shorter"):
        reader.checkpoint()
    assert reader.leaves(299, 301) == [leaf(299), leaf(300)], "what was verified stays"


@pytest.mark.parametrize("at", [0, 255, 256, 299])
def test_a_fork_is_refused_by_who_saw_the_other_branch(at: int):
    seen = log_of(300).checkpoint().note
    for other in (forked(700, at), forked(300, at)):
        with pytest.raises(ProofError):
            TileLog(served(tiles_of(other)), KEY.public, seen=seen).checkpoint()
    assert TileLog(served(tiles_of(log_of(700))), KEY.public, seen=seen).checkpoint().size == 700


def test_a_mirror_that_forks_after_it_was_read_poisons_nothing():
    files = tiles_of(log_of(700))
    reader = TileLog(served(files), KEY.public)
    reader.leaves(300, 310)
    files.clear()
    files.update(tiles_of(forked(900, 5)))
    with pytest.raises(ProofError):
        reader.checkpoint()
    files.clear()
    files.update(tiles_of(log_of(700)))
    assert reader.leaves(0, 10) == [leaf(n) for n in range(10)]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_lies_about_random_trees(data):
    size = data.draw(st.integers(1, 1200))
    files, rng = tiles_of(log_of(size)), random.Random(data.draw(st.integers(0, 2**32)))
    name = rng.choice([n for n in files if n != "checkpoint"])
    lie = bytearray(files[name])
    for _ in range(rng.randint(1, 3)):
        lie[rng.randrange(len(lie))] ^= rng.randint(1, 255)
    if bytes(lie) == files[name]:
        return
    reader = TileLog(served({**files, name: bytes(lie)}), KEY.public)
    with pytest.raises(ProofError):
        _all(reader, size)


def _all(reader: TileLog, size: int) -> None:
    reader.leaves(0, size)
    for index in range(size):
        reader.inclusion(index, size)
