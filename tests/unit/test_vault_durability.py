"""What survives: failed writes and flushes at every step, torn tails, second writers, readers beside a writer."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from datasov.errors import DecryptionError, StoreError
from datasov.vault import Vault
from tests import vaults
from tests.failing import Faults, faults
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips


def _large(vault: Vault) -> None:
    with vaults.large_from(1):
        vault.put([(TRIPS, trips(8, 9)), (METER, meter(8))])


def _twice(vault: Vault) -> None:
    vault.put([(TRIPS, trips(7))])
    vault.put([(METER, meter(7))])


OPERATIONS: dict[str, Callable[[Vault], None]] = {
    "put": lambda vault: vault.put([(TRIPS, trips(7)), (PERSON, person(7))]),
    "two puts": _twice,
    "large put": _large,
    "state": lambda vault: vault.set_state({"note": b"new"}),
    "compact": lambda vault: vault.compact(),
    "close": lambda vault: vault.close(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("fresh", [False, True])
def test_an_operation_that_fails_at_any_step_keeps_nothing_of_itself_and_all_before_it(
    tmp_path: Path, name: str, for_good: bool, code: int, fresh: bool
) -> None:
    operation = OPERATIONS[name]
    base = tmp_path / "base"
    vaults.varied(base)
    at = 0
    while True:
        at += 1
        path = tmp_path / f"v{at}"
        shutil.copytree(base, path)
        vault = Vault.open(path, device_key=KEY)
        if not fresh:
            vault.put([(TRIPS, trips(6))])
        states, raised = [vaults.held(vault)], False
        with faults(Faults(at, for_good=for_good, code=code)) as fault:
            try:
                operation(vault)
            except StoreError:
                raised = True
        if name == "two puts" and raised:
            states.append({**states[0], "trips": [*states[0]["trips"], trips(7).row(0)]})  # type: ignore[misc]
        if name != "close":
            live = vaults.held(vault)
            assert not raised or live in states
            vault.close()
        if raised or name in ("compact", "close"):
            assert vaults.contents(path) in states
        if name != "close":
            assert vaults.contents(path) == live
        with Vault.open(path, device_key=KEY) as again:
            kept = vaults.held(again)
            again.put([(TRIPS, trips(49)), (METER, meter(49))])
            again.compact()
            expected = {t: [*kept[t], f.row(0)] for t, f in (("trips", trips(49)), ("meter", meter(49)))}  # type: ignore[misc]
        assert vaults.contents(path) == {**kept, **expected}
        if fault.count < at:
            assert not raised
            break
    assert at > 2 or (name == "close" and fresh)


def test_a_writer_goes_on_after_a_failed_append_with_another_log(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        first = vault._session._live.entry.id  # type: ignore[union-attr]
        with faults(Faults(2)), pytest.raises(StoreError, match="the rows were not stored: Input/output error"):
            vault.put([(TRIPS, trips(2))])
        vault.put([(TRIPS, trips(3))])
        assert vault._session._live.entry.id != first  # type: ignore[union-attr]
        assert vault.scan("trips").equals(trips(1, 3))
    assert vaults.contents(tmp_path / "v")["trips"] == trips(1, 3).rows()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_creation_that_fails_at_any_step_leaves_no_path(tmp_path: Path, code: int) -> None:
    for at in range(1, 100):
        with faults(Faults(at, code=code)) as fault:
            try:
                Vault.create(tmp_path / "v", device_key=KEY).close()
            except StoreError:
                assert not (tmp_path / "v").exists()
        if fault.count < at:
            break
    assert at > 4
    assert vaults.contents(tmp_path / "v")["note"] is None


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[: max(1, len(data) // 3)]))
    expected = vaults.varied(tmp_path / "v")
    monkeypatch.undo()
    assert vaults.contents(tmp_path / "v") == expected


def test_a_write_that_takes_nothing_is_an_error_and_not_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        monkeypatch.setattr(os, "write", lambda fd, data: 0)
        with pytest.raises(StoreError, match="took no bytes"):
            vault.put([(TRIPS, trips(2))])
        monkeypatch.undo()
        assert vault.scan("trips").equals(trips(1))


def _crashed(tmp_path: Path) -> tuple[Path, Path, int, list[int]]:
    """A vault as it is found after a crash: (path, its log, where its known part ends, where each record ends)."""
    with Vault.create(tmp_path / "live", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(0))])
        vault.set_state({"note": b"x"})
        ends = [vault._session._live.entry.size]  # type: ignore[union-attr]
        for km in (1, 2, 3):
            vault.put([(TRIPS, trips(km)), (METER, meter(km))])
            ends.append(vault._session._live.entry.size)  # type: ignore[union-attr]
        shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    (log,) = (tmp_path / "crashed" / "log").iterdir()
    return tmp_path / "crashed", log, ends[0], ends[1:]


def _recovered(path: Path, records: int) -> None:
    found = vaults.contents(path)
    assert found["trips"] == trips(*range(records + 1)).rows()
    assert found["meter"] == meter(*range(1, records + 1)).rows()


def test_a_torn_tail_is_recovered_to_the_last_whole_record(tmp_path: Path) -> None:
    path, log, known, ends = _crashed(tmp_path)
    whole = log.read_bytes()
    assert len(whole) > ends[-1]
    for cut in [*range(known, ends[0] + 50), *range(ends[0] + 50, ends[2], 7), *range(ends[2] - 30, ends[2] + 2)]:
        for torn in (whole[:cut], whole[:cut] + bytes(len(whole) - cut)):
            log.write_bytes(torn)
            _recovered(path, sum(torn[:end] == whole[:end] for end in ends))
    log.write_bytes(whole[: ends[1] + 33])
    with Vault.open(path, device_key=KEY) as vault:
        vault.put([(TRIPS, trips(3)), (METER, meter(3))])
    _recovered(path, 3)
    with Vault.open(path, device_key=KEY) as vault:
        vault.compact()
    _recovered(path, 3)


def test_sectors_that_were_never_written_count_as_torn(tmp_path: Path) -> None:
    path, log, _, ends = _crashed(tmp_path)
    whole = log.read_bytes()
    for sector in range(-(-ends[1] // 512) * 512, ends[2], 512):
        lost = bytearray(whole)
        lost[sector : min(sector + 512, ends[2])] = bytes(min(sector + 512, ends[2]) - sector)
        log.write_bytes(lost)
        _recovered(path, 2)
    log.write_bytes(whole[: ends[1]] + bytes(ends[2] - ends[1]) + whole[ends[2] :])
    _recovered(path, 2)


def test_damage_before_the_tail_is_no_torn_tail(tmp_path: Path) -> None:
    path, log, known, ends = _crashed(tmp_path)
    whole = log.read_bytes()
    for at in [*range(known - 40, known), *range(known, ends[1], 11), *range(ends[1] - 16, ends[1])]:
        changed = bytearray(whole)
        changed[at] ^= 0x40
        log.write_bytes(changed)
        with pytest.raises(DecryptionError):
            vaults.contents(path)
    for cut in (0, 10, 130, known - 1):
        log.write_bytes(whole[:cut])
        with pytest.raises(DecryptionError):
            vaults.contents(path)
    lost = bytearray(whole)
    lost[ends[0] + 20 : ends[1]] = bytes(ends[1] - ends[0] - 20)
    log.write_bytes(lost)
    with pytest.raises(DecryptionError):
        vaults.contents(path)
    log.write_bytes(whole)
    _recovered(path, 3)


def test_a_log_that_a_crash_left_before_its_first_record(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "live", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(1))])
        shutil.copytree(tmp_path / "live", tmp_path / "v")
    (log,) = (tmp_path / "v" / "log").iterdir()
    whole = log.read_bytes()
    for cut in (0, 1, 100, 129, 130, 140):
        log.write_bytes(whole[:cut] + bytes(1000))
        assert vaults.contents(tmp_path / "v")["trips"] == []
        log.write_bytes(whole[:cut])
        assert vaults.contents(tmp_path / "v")["trips"] == []
    log.unlink()
    assert vaults.contents(tmp_path / "v")["trips"] == []
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(2))])
    assert vaults.contents(tmp_path / "v")["trips"] == trips(2).rows()


def test_files_that_crashes_leave_behind_are_ignored_and_swept(tmp_path: Path) -> None:
    expected = vaults.varied(tmp_path / "v")
    with Vault.create(tmp_path / "w", device_key=KEY) as other, vaults.large_from(0):
        other.put([(TRIPS, trips(1))])
    (orphan,) = (tmp_path / "w" / "seg").iterdir()
    shutil.copy(orphan, tmp_path / "v" / "seg" / orphan.name)
    for folder in ("seg", "manifest", "."):
        (tmp_path / "v" / folder / ".new-0123456789abcdef").write_bytes(b"half")
    (tmp_path / "v" / "log" / ("0" * 32)).write_bytes(b"")
    assert vaults.contents(tmp_path / "v") == expected
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        vault.compact()
    assert vaults.contents(tmp_path / "v") == expected
    left = [file for file in (tmp_path / "v").rglob("*") if file.name.startswith(".new-") or file.name == orphan.name]
    assert left == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = Vault.create(tmp_path / "v", device_key=KEY)
    with pytest.raises(StoreError, match="another process or another Vault writes"):
        Vault.open(tmp_path / "v", device_key=KEY)
    script = (
        "import sys; from datasov.vault import Vault; from datasov.errors import StoreError\n"
        "try: Vault.open(sys.argv[1], device_key=bytes(range(32)))\n"
        "except StoreError: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "v")], check=False).returncode == 7
    first.put([(TRIPS, trips(1))])
    first.close()
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "v")], check=False).returncode == 0
    with pytest.raises(DecryptionError):
        Vault.open(tmp_path / "v", device_key=bytes(32))
    Vault.open(tmp_path / "v", device_key=KEY).close()


def test_readers_go_on_beside_a_writer_that_appends_and_compacts(tmp_path: Path) -> None:
    done, failures = threading.Event(), list[BaseException]()
    Vault.create(tmp_path / "v", device_key=KEY).close()
    with Vault.open(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, trips(0))])

        def read() -> None:
            try:
                while not done.is_set():
                    with Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader:
                        seen = 0
                        for _ in range(4):
                            rows = reader.scan("trips").rows()
                            assert rows == trips(*(k % 50 for k in range(len(rows)))).rows()
                            assert len(rows) >= seen
                            seen = len(rows)
            except BaseException as fault:
                failures.append(fault)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for thread in readers:
            thread.start()
        for turn in range(1, 150):
            vault.put([(TRIPS, trips(turn % 50))])
            if turn % 9 == 0:
                vault.compact()
            if turn % 7 == 0:
                vault.set_state({"turn": str(turn).encode()})
        done.set()
        for thread in readers:
            thread.join()
    assert failures == []


def test_a_reader_sees_its_state_until_it_is_opened_again(tmp_path: Path) -> None:
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.set_state({"note": b"1"})
        with Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader:
            vault.set_state({"note": b"2"})
            assert reader.state("note") == b"1"
        assert vaults.contents(tmp_path / "v")["note"] == b"2"
