"""Evidence of a fork: it convicts every log that forked, and no log that did not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasov.errors import ProofError
from datasov.tlog.cosignature import Cosigner, cosign
from datasov.tlog.evidence import Evidence, compare
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import split_note
from tests.logs import KEY, ORIGIN, OTHER, forked, grow, leaf, log_of, served, tiles_of

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]


def note_of(size: int, at: int | None = None) -> bytes:
    return (log_of(size) if at is None else forked(size, at)).checkpoint().note


@pytest.mark.parametrize("old", SIZES)
def test_a_log_that_only_grew_is_acquitted(old: int):
    for new in (n for n in (*SIZES, 40) if n >= old):
        log = log_of(new)
        assert compare(note_of(old), log.checkpoint().note, KEY.public, log) is None
        assert compare(log.checkpoint().note, note_of(old), KEY.public, log) is None


@pytest.mark.parametrize("old", SIZES)
def test_a_log_that_forked_is_convicted_wherever_it_forked(old: int):
    for new in (n for n in (*SIZES, 40) if n >= old):
        for at in range(old):
            log = forked(new, at)
            found = compare(note_of(old), log.checkpoint().note, KEY.public, log)
            assert found is not None, (old, new, at)
            first, second = Evidence.from_bytes(found.to_bytes()).verify()
            assert (first.size, second.size) == (old, new)
            assert {found.first, found.second} == {note_of(old), log.checkpoint().note}
            assert old == new or found.first == note_of(old), "the smaller tree's note is the first"


def test_both_find_the_same_whoever_asks():
    log = forked(9, 2)
    a, b = note_of(5), log.checkpoint().note
    assert compare(a, b, KEY.public, log) == compare(b, a, KEY.public, log)


def test_a_mirror_is_enough():
    for size, at in ((700, 300), (700, 5)):
        reader = TileLog(served(tiles_of(forked(size, at))), KEY.public)
        found = compare(note_of(512), reader.checkpoint().note, KEY.public, reader)
        assert (found is None) is (at >= 512)
        if found:
            found.verify()
    reader = TileLog(served(tiles_of(forked(700, 600))), KEY.public)
    assert compare(note_of(512), reader.checkpoint().note, KEY.public, reader) is None


def test_nothing_is_shown_without_a_log_or_by_the_wrong_one():
    a, b = note_of(5), forked(9, 2).checkpoint().note
    with pytest.raises(ProofError, match="give a reader"):
        compare(a, b, KEY.public)
    for log in (log_of(9), forked(9, 3), forked(9, 7)):
        with pytest.raises(ProofError, match="neither a fork nor its absence"):
            compare(a, b, KEY.public, log)
    with pytest.raises(ProofError):
        compare(a, b, KEY.public, log_of(5))
    assert compare(note_of(5), note_of(5, 2), KEY.public) is not None, "equal sizes need no log"


def test_notes_of_another_key_convict_nobody():
    for a, b in ((note_of(5), log_of(5, OTHER).checkpoint().note), (b"", note_of(5)), (note_of(5), b"nonsense")):
        with pytest.raises(ProofError):
            compare(a, b, KEY.public)


def test_an_empty_log_is_no_branch():
    assert compare(note_of(0), note_of(5), KEY.public) is None
    with pytest.raises(ProofError, match="no evidence"):
        Evidence(ORIGIN, KEY.public, note_of(0), note_of(5)).verify()


def test_no_evidence_can_be_made_against_an_honest_log():
    honest, log = note_of(5), log_of(9)
    other = forked(9, 2)
    for first, second, path in (
        (honest, log.checkpoint().note, tuple(log.consistency(5, 9))),
        (honest, log.checkpoint().note, tuple(other.consistency(5, 9))),
        (honest, log.checkpoint().note, ()),
        (honest, honest, ()),
        (honest, honest, tuple(log.consistency(5, 9))),
        (log.checkpoint().note, honest, tuple(log.consistency(5, 9))),
        (honest, log.checkpoint().note, (*log.consistency(5, 9), bytes(32))),
        (honest, log.checkpoint().note, tuple(log.consistency(5, 9)[:-1])),
        (honest, log.checkpoint().note, (bytes(32), *log.consistency(5, 9))),
    ):
        with pytest.raises(ProofError):
            Evidence(ORIGIN, KEY.public, first, second, path).verify()


@given(st.integers(1, 60), st.integers(1, 60), st.lists(st.binary(min_size=32, max_size=32), max_size=8), st.data())
def test_random_paths_convict_nobody(a, b, path, data):
    old, new = sorted((a, b))
    log = log_of(new)
    if old < new:
        true = [log.node(old.bit_length() - 1, 0)] if old & (old - 1) == 0 else []
        true += log.consistency(old, new)
        path = data.draw(st.one_of(st.just(path), st.permutations(true), st.just(true)))
    with pytest.raises(ProofError):
        Evidence(ORIGIN, KEY.public, note_of(old), log.checkpoint().note, tuple(path)).verify()


def test_a_changed_piece_of_evidence_is_none():
    found = compare(note_of(4), (log := forked(9, 2)).checkpoint().note, KEY.public, log)
    for change in (
        {"public": OTHER.public}, {"origin": "example.com"}, {"first": found.second}, {"second": found.first},
        {"path": ()}, {"path": found.path[1:]}, {"path": (*found.path, bytes(32))}, {"first": note_of(5)},
        {"path": (bytes(32), *found.path[1:])}, {"path": (b"x", *found.path[1:])},
    ):  # fmt: skip
        with pytest.raises(ProofError):
            replace(found, **change).verify()


def test_two_roots_of_one_size_need_no_path_and_have_none():
    found = compare(note_of(5), note_of(5, 2), KEY.public)
    found.verify()
    with pytest.raises(ProofError, match="no evidence"):
        replace(found, path=(bytes(32),)).verify()


def test_malformed_evidence_is_refused():
    log = forked(9, 2)
    data = compare(note_of(4), log.checkpoint().note, KEY.public, log).to_bytes()
    assert Evidence.from_bytes(data).to_bytes() == data
    for wrong in (
        b"", data[:-1], data + b"\n", data[1:], data.replace(b"log ", b"Log "), data.replace(b"first ", b"first  "),
        data.replace(b"second ", b"first "), data.replace(b"@v1", b"@v2"), b"\xff" + data, data.replace(b"\n", b"\r\n"),
        data * 2, data.replace(ORIGIN.encode(), b"x"), data + b"AAAA\n",
    ):  # fmt: skip
        with pytest.raises(ProofError):
            Evidence.from_bytes(wrong)


def test_a_witness_that_cosigned_both_is_named():
    keys = [OTHER, KEY]
    known = [Cosigner(f"w{n}", key.public) for n, key in enumerate(keys)]
    notes = [note_of(5), note_of(5, 2)]
    both = [n + cosign(split_note(n)[0], "w0", OTHER, 7).encode() for n in notes]
    one = [both[0], notes[1] + cosign(split_note(notes[1])[0], "w1", KEY, 7).encode()]
    assert compare(*both, KEY.public).both(known) == known[:1]
    assert compare(*one, KEY.public).both(known) == []


def test_a_log_that_grows_on_is_still_compared_with_an_old_checkpoint():
    log = log_of(5)
    old = log.checkpoint().note
    grow(log, *(leaf(n) for n in range(5, 9)))
    assert compare(old, log.checkpoint().note, KEY.public, log) is None
