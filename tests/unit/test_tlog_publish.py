"""A log as files: written once, taken up where it was cut short, and read back."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from datasov.errors import ProofError, StoreError
from datasov.tlog import publish as publishing
from datasov.tlog.mirror import TileLog
from datasov.tlog.note import open_checkpoint
from datasov.tlog.publish import publish
from datasov.tlog.tree import leaf_hash, verify_consistency, verify_inclusion
from tests.logs import KEY, ORIGIN, OTHER, files_of, forked, grow, leaf, log_of, served, tiles_of


def same(log, reader, size: int) -> None:
    """The reader answers as the log does, and its answers verify."""
    signed = open_checkpoint(reader.checkpoint().note, ORIGIN, KEY.public)
    assert (signed.size, signed.root) == (size, log.root(size))
    assert reader.leaves() == reader.leaves(0, size) == log.leaves(0, size)
    for place in {0, size // 3, size // 2, size - 1} if size else ():
        assert reader.inclusion(place, size) == log.inclusion(place, size)
        verify_inclusion(leaf_hash(leaf(place)), place, size, reader.inclusion(place, size), signed.root)
        old = place + 1
        assert reader.consistency(old, size) == log.consistency(old, size)
        verify_consistency(old, size, log.root(old), signed.root, reader.consistency(old, size))
        assert reader.leaves(place, old) == [leaf(place)]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_a_mirror_answers_as_the_log_does(tmp_path: Path, size: int):
    log = log_of(size)
    log.publish(tmp_path / "m")
    assert files_of(tmp_path / "m") == tiles_of(log)
    same(log, TileLog(tmp_path / "m", KEY.public), size)
    same(log, TileLog(served(files_of(tmp_path / "m")), KEY.public), size)


def test_three_levels_of_tiles_are_read():
    log = log_of(66_000)
    files = tiles_of(log)
    assert {"tile/0/256", "tile/0/257.p/208", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"} <= set(files)
    same(log, TileLog(served(files), KEY.public), 66_000)


def test_the_files_of_a_tree_of_six_hundred_leaves(tmp_path: Path):
    log_of(600).publish(tmp_path / "m")
    files = files_of(tmp_path / "m")
    assert {name: len(data) for name, data in files.items() if "entries" not in name and name != "checkpoint"} == {
        "tile/0/000": 8192, "tile/0/001": 8192, "tile/0/002.p/88": 88 * 32, "tile/1/000.p/2": 64,
    }  # fmt: skip
    assert sorted(name for name in files if "entries" in name) == [
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88",
    ]  # fmt: skip
    assert files["tile/0/000"][:32] == leaf_hash(leaf(0))
    assert files["tile/entries/000"][:8] == b"\x00\x06leaf 0"


def test_only_what_is_new_is_written_and_whole_tiles_never_change(tmp_path: Path):
    log, folder = log_of(300), tmp_path / "m"
    log.publish(folder)
    before = {name: (folder / name).stat().st_ino for name in files_of(folder)}
    grow(log, *(leaf(n) for n in range(300, 600)))
    log.publish(folder)
    after = {name: (folder / name).stat().st_ino for name in files_of(folder)}
    assert {name for name in before if before[name] == after.get(name)} == {
        "tile/0/000", "tile/entries/000", "tile/1/000.p/1",
    }  # fmt: skip
    assert "tile/0/001.p/44" not in after, "a partial tile goes once the whole one is there"
    assert "tile/entries/001.p/44" not in after
    same(log, TileLog(folder, KEY.public), 600)
    log.publish(folder)
    assert {name: (folder / name).stat().st_ino for name in files_of(folder)} == after, "nothing new, nothing written"


def test_who_holds_an_earlier_checkpoint_reads_on_after_its_partial_tiles_are_gone(tmp_path: Path):
    log, folder = log_of(300), tmp_path / "m"
    log.publish(folder)
    old = (folder / "checkpoint").read_bytes()
    grow(log, *(leaf(n) for n in range(300, 600)))
    log.publish(folder)
    files = {**files_of(folder), "checkpoint": old}
    reader = TileLog(served(files), KEY.public)
    assert reader.checkpoint().size == 300
    assert reader.leaves() == [leaf(n) for n in range(300)]


@pytest.mark.parametrize("cut", range(10))
def test_a_run_that_was_cut_short_leaves_the_old_log_and_is_taken_up(tmp_path: Path, monkeypatch, cut: int):
    log, folder, replace, left = log_of(300), tmp_path / "m", os.replace, cut
    log.publish(folder)
    grow(log, *(leaf(n) for n in range(300, 800)))

    def failing(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(publishing.os, "replace", failing)
    try:
        log.publish(folder)
        done = 800
    except StoreError:
        done = 300
    assert done == (800 if cut >= 8 else 300)
    monkeypatch.undo()
    same(log, TileLog(folder, KEY.public), done)
    log.publish(folder)
    same(log, TileLog(folder, KEY.public), 800)
    assert not [name for name in files_of(folder) if ".part" in name]


def test_a_torn_file_beyond_the_checkpoint_is_written_anew(tmp_path: Path):
    log, folder = log_of(300), tmp_path / "m"
    (folder / "tile" / "0").mkdir(parents=True)
    (folder / "tile" / "0" / "000").write_bytes(b"torn")
    (folder / ".part-99").write_bytes(b"of a run that died")
    log.publish(folder)
    assert ".part-99" not in files_of(folder)
    same(log, TileLog(folder, KEY.public), 300)


def test_no_other_tree_is_published_over_a_log(tmp_path: Path):
    folder = tmp_path / "m"
    log_of(300).publish(folder)
    before = files_of(folder)
    for wrong, why in ((forked(600, 7), "forked"), (log_of(299), "went back"), (log_of(600, OTHER), "another log")):
        with pytest.raises(ProofError, match=why):
            wrong.publish(folder)
    (folder / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(ProofError):
        log_of(600).publish(folder)
    (folder / "checkpoint").write_bytes(before["checkpoint"])
    assert files_of(folder) == before


def test_a_mirror_of_a_mirror(tmp_path: Path):
    log = log_of(700)
    log.publish(tmp_path / "m")
    first = TileLog(tmp_path / "m", KEY.public)
    publish(first, tmp_path / "n", first.checkpoint())
    assert files_of(tmp_path / "n") == files_of(tmp_path / "m")


def test_long_leaves_are_in_wide_bundles(tmp_path: Path):
    leaves = [leaf(n) for n in range(300)]
    leaves[3], leaves[299] = b"x" * 65_535, b"y" * 65_536
    log = log_of(leaves)
    log.publish(tmp_path / "m")
    assert {"tile/entries/000", "datasov/entries/001.p/44"} <= set(files_of(tmp_path / "m"))
    assert "tile/entries/001.p/44" not in files_of(tmp_path / "m")
    assert TileLog(tmp_path / "m", KEY.public).leaves() == leaves
    grow(log, *(leaf(n) for n in range(300, 600)))
    log.publish(tmp_path / "m")
    assert TileLog(tmp_path / "m", KEY.public).leaves()[299] == leaves[299]


def test_two_that_publish_at_once_leave_the_newer_log(tmp_path: Path):
    log, folder, faults = log_of(300), tmp_path / "m", []

    def run():
        try:
            log.publish(folder)
        except ProofError as fault:
            faults.append(fault)

    for n in range(300, 420, 40):
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        grow(log, *(leaf(m) for m in range(n, n + 40)))
        for thread in threads:
            thread.join()
    log.publish(folder)
    same(log, TileLog(folder, KEY.public), 420)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "m").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        log_of(3).publish(tmp_path / "m")


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 601), (600, 601)])
def test_ranges_that_are_none_are_refused(tmp_path: Path, start: int, end: int):
    log_of(600).publish(tmp_path / "m")
    with pytest.raises(ProofError):
        TileLog(tmp_path / "m", KEY.public).leaves(start, end)
