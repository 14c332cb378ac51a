"""Claim: killed anywhere while a collection is opened, a city charges nobody twice for one answer and none for free.

What the pool says is drawn when the collection is opened (reserve, snapshot, charge, noise, commit), and stands: a task
that anybody saw is there again, with the same noise, and one that nobody saw was never drawn for, or costs once more.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import datasov as ds
from datasov.city import collecting as city_collecting
from datasov.city.opening import Pooled
from datasov.kernel import monitor
from datasov.mpc.task import read_task
from tests.adversary.collecting import LOSS, collect, question
from tests.adversary.points import at_every_point
from tests.audit import audit
from tests.helpers import NOW, PURPOSE, TRIPS, Clock, enrol, few_lists
from tests.locals import ALL, certain, person, send
from tests.paths import ROOT
from tests.servers import LONG, TRUST, Crash, Servers, silent

NAME = "l.city"
POOLED = 3


def found(folder: Path, budget: ds.Loss) -> Path:
    """A city of all three trust models with some in its pool."""
    path = folder / NAME
    with ds.City.open(path, budget=budget, purposes=[PURPOSE], trust=ALL, clock=lambda: NOW) as city:
        enrol(city, range(POOLED), lambda n: [{"district": "N", "km": n}], loss=ds.pure(epsilon=1000))
    return path


def open_(path: Path, clock: Clock) -> tuple[ds.City, Servers]:
    made: list[Servers] = []
    city = ds.City.open(path, clock=clock, post=lambda *a: made[0].post(*a))
    budget = ds.pure(epsilon=100)
    made.append(Servers(clock, str(city.id), budgets=(budget, budget)))
    return city, made[0]


def check_after(path: Path, seen: bytes, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The city opens without help, its accounts hold, and the collection goes on to one exact answer for ever."""
    clock = Clock()
    city, servers = open_(path, clock)
    with city, patch.context() as here:
        few_lists(here)
        silent(here)
        certain(here)
        before, standing = audit(city), city.tasks()
        assert len(standing) <= before <= 1
        assert standing == [seen] if seen else len(standing) <= 1
        task = collect(city, 1)
        assert standing in ([], [task])
        assert audit(city) == before + (not standing), "one that stands is not paid again"
        assert city.remaining.nano == city.budget.nano - audit(city) * LOSS.nano
        assert [s.ledger.remaining().nano for s in servers.both] == [ds.pure(epsilon=100).nano - LOSS.nano] * 2
        people = [person(folder, clock, n, city, "N", t) for n, t in enumerate(ALL[1:])]
        send(city, servers, people, task)
        clock.now += LONG
        release = city.release(question(1), loss=LOSS, purpose=PURPOSE)
        drawn = read_pooled(city, task)
        assert release.values[0].tolist() == [drawn[0] + 1, *drawn[1:]], "the two servers' one, and what stands"
        assert release.responses.tally.supports.tolist() == [1, 0, 0, 0]
        assert city.release(question(1), loss=LOSS, purpose=PURPOSE).digest == release.digest
        assert audit(city) == before + (not standing)
        for who in people:
            who.close()
    with ds.City.open(path, clock=clock) as city:
        assert city.release(question(1), loss=LOSS, purpose=PURPOSE).digest == release.digest


def read_pooled(city: ds.City, task: bytes) -> list[int]:
    """What the pool said when the task was opened, noise and all."""
    stored = city._ledger.stored(city_collecting._task_key(read_task(task).request())) or b""
    (words,) = city_collecting.cbor.decode(stored)[2]
    return [int.from_bytes(words[at : at + 8], "little", signed=True) for at in range(0, len(words), 8)]


STEPS = [
    pytest.param(step, late, id=f"{'after' if late else 'before'} {step}", marks=() if late else pytest.mark.campaign)
    for step in ("reserve", "snapshot", "parts", "charge", "draw", "commit") for late in (False, True)
    if (step, late) not in (("snapshot", True), ("parts", True))
]  # fmt: skip


@pytest.mark.parametrize(("step", "late"), STEPS)
def test_a_city_that_fails_at_a_step_of_an_opening_goes_on(tmp_path, step, late, monkeypatch):
    path, places = found(tmp_path, ds.pure(epsilon=50)), []

    def dying(owner, name):
        real = getattr(owner, name)

        def call(*given, **more):
            if late:
                real(*given, **more)
            places.append(name)
            raise Crash

        patch.setattr(owner, name, call)

    city, _ = open_(path, Clock())
    with monkeypatch.context() as patch:
        few_lists(patch)
        city.tick()
        match step:
            case "snapshot":
                dying(Pooled, "snapshot")
            case "parts":
                dying(monitor, "_parts")
            case "draw":
                dying(monitor, "draw")
            case _:
                dying(city._ledger, step)
        with pytest.raises((Crash, ds.InternalError)):
            collect(city, 1)
        assert places == [step if step != "parts" else "_parts"]
    city.close()
    check_after(path, b"", tmp_path, monkeypatch)


def child(mode: str, path: Path, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.adversary.collecting", mode, str(path), argument],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.campaign
@pytest.mark.parametrize("what", ["append", "fsync", "replace"])
def test_a_city_that_dies_between_every_two_steps_of_an_opening(tmp_path, what, monkeypatch):
    def run(copy: Path, point: str) -> int:
        output, errors = (process := child("crash", copy, f"{what}:{point}")).communicate()
        assert process.returncode in (0, 9), errors
        check_after(copy, bytes.fromhex(output.strip()), copy.parent, monkeypatch)
        return process.returncode

    at_every_point(found(tmp_path, ds.pure(epsilon=50)), 30, run)


@pytest.mark.campaign
def test_a_city_killed_at_random_while_it_opens_collections(tmp_path, monkeypatch):
    few_lists(monkeypatch)
    rng, seen = random.Random(5), set()
    path = found(tmp_path, ds.pure(epsilon=100_000))
    for round_ in range(8):
        process = child("loop", path, str(round_ * 10_000))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        time.sleep(rng.uniform(0, 0.4) * (1 if seen else 1 + round_))
        process.send_signal(signal.SIGKILL)
        whole = process.communicate()[0]
        seen |= {bytes.fromhex(line) for line in whole[: whole.rfind("\n") + 1].splitlines()}
        with ds.City.open(path, clock=lambda: NOW) as city:
            reservations, standing = audit(city), city.tasks()
            assert seen <= set(standing), "a task left the process and does not stand"
            assert len(standing) <= reservations <= len(standing) + 2 * (round_ + 1), "one more of each thread and kill"
            assert len({read_task(t).query.digest for t in standing}) == len(standing)
    assert seen, "nothing was ever opened: the test kills too early"


def test_the_questions_of_these_tests_differ_and_are_of_all_rows():
    assert question(1).digest != question(2).digest
    assert TRIPS.column("km").range[0] > -1
    assert TRUST in ALL
