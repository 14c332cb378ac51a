"""Claim: a backup, a restoration or a rotation that is cut off leaves the city of before, or the new one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import datasov as ds
from datasov.errors import DatasovError, StoreError
from datasov.store import place
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.whole import read_whole
from datasov.upkeep.check import check
from tests.adversary.asking import LOSS, ask
from tests.audit import audit
from tests.helpers import NOW, PURPOSE, enrol
from tests.paths import ROOT


def found(folder: Path) -> Path:
    path = folder / "lake.city"
    with ds.City.open(path, budget=ds.zcdp(rho=1000), purposes=[PURPOSE], clock=lambda: NOW) as city:
        enrol(city, range(6), lambda n: [{"district": "NESW"[n % 4], "km": n}])
        ask(city, 1)
        enrol(city, range(6, 9), lambda n: [{"district": "NESW"[n % 4], "km": n}])
    return path


class States:
    """Copies of a folder as a kill just before each call that changes names or flushes would leave it."""

    def __init__(self, folder: Path, to: Path) -> None:
        self.made, self._folder, self._to, self._busy = list[Path](), folder, to, False

    def take(self) -> None:
        if not self._busy:
            self._busy = True
            copy = self._to / str(len(self.made))
            shutil.copytree(self._folder, copy, ignore_dangling_symlinks=True)
            self.made.append(copy)
            self._busy = False

    @contextmanager
    def taking(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((os, "replace"), (os, "rename"), (os, "fsync"), (os, "unlink"), (os, "mkdir"),
                                (SQLiteStore, "append"), (SQLiteStore, "close")):  # fmt: skip
                patch.setattr(owner, name, self._before(getattr(owner, name)))
            yield

    def _before(self, real: Callable[..., object]) -> Callable[..., object]:
        def called(*given: object, **named: object) -> object:
            self.take()
            return real(*given, **named)

        return called


@pytest.fixture
def states(tmp_path: Path) -> States:
    (tmp_path / "live").mkdir()
    (tmp_path / "states").mkdir()
    return States(tmp_path / "live", tmp_path / "states")


def whole(path: Path, answers: int = 1, key: bytes | None = None) -> ds.CityId:
    """The city opens without any help, is whole, and asks on."""
    with ds.City.open(path, clock=lambda: NOW, operator_key=key) as city:
        assert audit(city) == answers
        assert city.remaining == city.budget - ds.Loss(LOSS.nano * answers)
        read_whole(city.log, [city.id])
    assert [f for f in check(path, key) if f.fault] == []
    with ds.City.open(path, clock=lambda: NOW, operator_key=key) as city:
        ask(city, 1)
        assert audit(city) == answers
        ask(city, 2)
        return city.id


ALL = pytest.param(1, marks=pytest.mark.campaign)


@pytest.mark.parametrize(
    ("handed", "step"), [(False, 3), (True, 6), pytest.param(False, 1, marks=pytest.mark.campaign)]
)
def test_a_rotation_that_is_cut_off(tmp_path, states, handed, step):
    path = found(tmp_path / "live")
    old, new = place.key_path(path).read_bytes(), bytes([7]) * 32
    if handed:
        place.key_path(path).unlink()
    with ds.City.open(path, clock=lambda: NOW, operator_key=old if handed else None) as city:
        before = city.id
        with states.taking():
            after = city.rotate(new)
    assert len(states.made) > 15
    seen = []
    for state in states.made[::-step][::-1]:
        copy = state / "lake.city"
        keys = (old, new) if handed else (None,)
        opened, refused = [], []
        for key in keys:
            try:
                opened.append(whole(copy, key=key))
            except StoreError as why:
                refused.append(str(why))
        assert len(opened) == 1, "exactly one of the two keys opens it"
        assert all("not this city's" in why for why in refused)
        seen += opened
        left = {p.name for p in state.iterdir()} - {"lake.city", "lake.city.key", "lake.city.anchor"}
        assert not left, left
        assert {p.name for p in copy.iterdir()} <= {"city.db", "city.db-wal", "city.db-shm", "pool"}
    assert set(seen) == {before, after}
    assert seen == sorted(seen, key=lambda i: i == after), "once it is the new city, it stays so"


@pytest.mark.parametrize("step", [10, ALL])
def test_a_rotation_that_was_cut_off_can_be_done_again(states, step):
    path = found(states._folder)
    with states.taking():
        ds.City.open(path, clock=lambda: NOW).rotate()
    for state in states.made[::step]:
        with ds.City.open(state / "lake.city", clock=lambda: NOW) as city:
            before = city.id
            after = city.rotate()
        assert before != after
        assert whole(state / "lake.city") == after


def test_a_rotation_on_a_full_disk_leaves_the_city_as_it_was(tmp_path, monkeypatch):
    path = found(tmp_path)
    real, calls, failing_at = os.fsync, 0, 0
    with ds.City.open(path, clock=lambda: NOW) as city:
        before = city.id

    def failing(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_at:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", failing)
    for point in range(1, 6):
        calls, failing_at = 0, point
        with pytest.raises(StoreError):
            ds.City.open(path, clock=lambda: NOW).rotate()
        calls = 100
        with ds.City.open(path, clock=lambda: NOW) as city:
            assert city.id == before
    monkeypatch.undo()
    whole(path)


@pytest.mark.parametrize("step", [3, ALL])
def test_a_backup_that_is_cut_off_is_none_and_the_city_goes_on(tmp_path, states, step):
    path = found(states._folder)
    with ds.City.open(path, clock=lambda: NOW) as city, states.taking():
        city.backup(path.parent / "backup")
    complete, tried = 0, states.made[::-step]
    for state in tried:
        if (state / "backup").exists():
            complete += 1
            shutil.rmtree(state / "lake.city")
            ds.City.restore(state / "backup", state / "lake.city", clock=lambda: NOW).close()
        whole(state / "lake.city")
    assert 0 < complete < len(tried)


@pytest.mark.parametrize("step", [4, ALL])
def test_a_restoration_that_is_cut_off_can_be_done_again(tmp_path, states, step):
    path = found(states._folder)
    with ds.City.open(path, clock=lambda: NOW) as city:
        city.backup(path.parent / "backup")
        ask(city, 3)
    shutil.rmtree(path)
    with states.taking():
        ds.City.restore(path.parent / "backup", path, reanchor=True, clock=lambda: NOW).close()
    there, tried = 0, states.made[::-step]
    for state in tried:
        copy = state / "lake.city"
        if copy.exists():
            there += 1
        else:
            with pytest.raises(DatasovError):
                ds.City.open(copy, budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=lambda: NOW)
            ds.City.restore(state / "backup", copy, reanchor=True, clock=lambda: NOW).close()
        with ds.City.open(copy, clock=lambda: NOW) as city:
            assert len(read_whole(city.log, [city.id]).operators.restorations) == 1
        whole(copy)
    assert 0 < there < len(tried)


def wait_until(grown):
    """For as long as a busy machine takes; a process that died fails the test at its end."""
    until = time.monotonic() + 300
    while not grown() and time.monotonic() < until:
        time.sleep(0.05)
    assert grown()


def test_backups_while_four_processes_admit_and_ask(tmp_path):
    path = found(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.adversary.busy", str(path), str(number)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )
        for number in range(1, 5)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with ds.City.open(path, clock=lambda: NOW) as city:
            for number in range(3):
                size = city.log.size
                city.backup(tmp_path / f"b{number}")
                wait_until(lambda before=size: city.log.size > before + 1)
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
        said = [line for process in processes for line in process.communicate()[0].splitlines()]
    with ds.City.open(path, clock=lambda: NOW) as city:
        audit(city)
        final = city.log.checkpoint().note
        stored = [r.identifier.hex() for r in city.releases()]
        assert {line for line in said if len(line) == 32} <= set(stored)
    key, sizes = place.key_path(path).read_bytes(), []
    for number in range(3):
        to = tmp_path / f"r{number}" / "x.city"
        to.parent.mkdir()
        with pytest.raises(StoreError):
            ds.City.restore(tmp_path / f"b{number}", to, operator_key=key, log_head=final, clock=lambda: NOW)
        with ds.City.restore(
            tmp_path / f"b{number}", to, operator_key=key, reanchor=True, clock=lambda: NOW
        ) as restored:
            sizes.append(audit(restored))
            assert [r.identifier.hex() for r in restored.releases()] == stored[: len(restored.releases())]
            ask(restored, 1)
        assert [f for f in check(to, key) if f.fault] == []
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1], "they went on meanwhile"


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(30))
def test_a_rotation_killed_at_random(tmp_path, seed):
    path = found(tmp_path)
    script = (
        "import sys, datasov as ds; city = ds.City.open(sys.argv[1], clock=lambda: 1_800_000_000);"
        "print('ready', flush=True); city.rotate()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.003 * seed)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole(path)
