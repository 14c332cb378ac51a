"""Claim: killed between any two steps, a city never answers for free, never overspends, and opens again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import datasov as ds
from tests.adversary.asking import LOSS, ask, question
from tests.adversary.points import at_every_point
from tests.audit import audit
from tests.helpers import NOW, PURPOSE, enrol
from tests.paths import ROOT


def found(folder: Path, budget: ds.Loss) -> Path:
    path = folder / "lake.city"
    with ds.City.open(path, budget=budget, purposes=[PURPOSE], clock=lambda: NOW) as city:
        enrol(city, range(12), lambda n: [{"district": "NESW"[n % 4], "km": n}] * 3, loss=ds.zcdp(rho="0.5"))
    return path


def child(mode: str, path: Path, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.adversary.asking", mode, str(path), argument],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )  # fmt: skip


def kill_at_random(folder: Path, rounds: int, seed: int, mode: str = "loop") -> None:
    rng, path, seen, early = random.Random(seed), found(folder, ds.zcdp(rho=1000)), set(), 0
    for round_ in range(rounds):
        process = child(mode, path, str(round_ * 10_000))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        time.sleep(rng.uniform(0, 0.12 if mode == "loop" else 0.4) * (1 + early))  # a slow machine is given more
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].splitlines()
        answered = {line.split(":")[0] for line in lines if len(line.split(":")) == 2 and len(line) > 33}
        seen, early = seen | answered, 0 if answered else early + 1
        with ds.City.open(path, clock=lambda: NOW) as city:
            audit(city)
            stored = {r.identifier.hex() for r in city.releases()}
            assert seen <= stored, "an answer left the process and is not stored"
    assert seen, "nothing was ever answered: the test kills too early"


@pytest.mark.campaign
def test_a_city_killed_at_random_twenty_times(tmp_path):
    kill_at_random(tmp_path, 20, 1)


def test_a_city_killed_at_random_under_eight_threads_five_times(tmp_path):
    kill_at_random(tmp_path, 5, 3, "threads")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_four_cities_killed_at_random_under_eight_threads_fifty_times_each(tmp_path, seed):
    kill_at_random(tmp_path, 50, seed, "threads")


@pytest.mark.parametrize("what", ["append", "fsync", "replace"])
def test_a_city_that_dies_between_every_two_steps(tmp_path, what):
    def run(copy: Path, point: str) -> int:
        output, errors = (process := child("crash", copy, f"{what}:{point}")).communicate()
        assert process.returncode in (0, 9), errors
        check_after(copy, output.strip())
        return process.returncode

    at_every_point(found(tmp_path, ds.zcdp(rho="0.05")), 30, run)


def check_after(path: Path, printed: str) -> None:
    """The city opens without any help, its accounts hold, and the question is answered at the price of one more."""
    with ds.City.open(path, clock=lambda: NOW) as city:
        reservations, stored = audit(city), len(city.releases())
        assert stored <= reservations <= 1
        if printed:
            assert stored == 1
        answer = ask(city, 1)
        assert not printed or answer == printed
        assert audit(city) == reservations + (1 - stored)
        assert city.remaining == city.budget - ds.Loss(LOSS.nano * (reservations + 1 - stored))
        assert ask(city, 1) == answer


def test_a_city_killed_while_it_is_founded_is_whole_or_not_there(tmp_path):
    path = tmp_path / "lake.city"
    script = (
        "import sys; from tests.adversary.asking import die_at; import datasov as ds; die_at(sys.argv[2]);"
        "ds.City.open(sys.argv[1], budget=ds.zcdp(rho=1), purposes=['p'])"
    )
    points = [f"{w}:{n}:{when}" for w, most in (("append", 2), ("fsync", 4), ("replace", 1)) for n in range(most)
              for when in ("before", "after")]  # fmt: skip
    for point in points:
        run = subprocess.run([sys.executable, "-c", script, str(path), point], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode in (0, 9), run.stderr
        if path.exists():
            with ds.City.open(path, reanchor=True) as city:
                assert city.remaining == ds.zcdp(rho=1)
            with ds.City.open(path) as city:
                assert city.purposes == ("p",)
        else:
            with ds.City.open(path, budget=ds.zcdp(rho=1), purposes=["p"]) as city:
                assert city.remaining == ds.zcdp(rho=1)
        for left in tmp_path.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def test_the_questions_of_these_tests_differ():
    assert question(1).digest != question(2).digest
