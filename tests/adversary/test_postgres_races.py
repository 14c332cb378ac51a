"""Claim: processes on one PostgreSQL server never overspend, and answer a question once, also when it is killed."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import datasov as ds
from tests.adversary.asking import LOSS, ask
from tests.adversary.test_kill import child
from tests.audit import audit
from tests.helpers import NOW, PURPOSE, enrol
from tests.postgres import Server


def found(folder: Path, server: Server, budget: ds.Loss) -> Path:
    path = folder / "lake.city"
    with ds.City.open(path, budget=budget, purposes=[PURPOSE], clock=lambda: NOW, store=server.url()) as city:
        enrol(city, range(12), lambda n: [{"district": "NESW"[n % 4], "km": n}] * 3, loss=ds.zcdp(rho="0.5"))
    return path


def answers(outputs: list[str]) -> dict[str, set[str]]:
    """The answers that processes printed, by the number of the question."""
    gathered: dict[str, set[str]] = {}
    for output in outputs:
        for number, answer in (line.split() for line in output.splitlines() if " " in line):
            gathered.setdefault(number, set()).add(answer)
    return gathered


def check(path: Path, gathered: dict[str, set[str]], questions: int, payable: int) -> None:
    """Every question was answered once, byte for byte, or refused; all that left is stored; nothing was overspent."""
    assert sorted(map(int, gathered)) == list(range(questions)), "a question got no reply"
    given = {number: found - {"refused"} for number, found in gathered.items()}
    assert all(len(found) <= 1 for found in given.values()), "two answers to one question"
    with ds.City.open(path, clock=lambda: NOW) as city:
        reservations, stored = audit(city), {r.identifier.hex() for r in city.releases()}
        assert {a.split(":")[0] for found in given.values() for a in found} <= stored, "an answer that is not stored"
        assert reservations <= payable
        assert len(stored) == len({r.query for r in city.releases()}), "a question was answered twice"
        for number, found in given.items():
            for answer in found:
                assert ask(city, int(number)) == answer


def race(path: Path, processes: int, questions: int) -> list[str]:
    children = [child("each", path, str(questions)) for _ in range(processes)]
    results = [(p.communicate(timeout=300), p.returncode) for p in children]
    assert all(code == 0 for _, code in results), results
    return [out for (out, _), _ in results]


def killed(path: Path, server: Server, processes: int, questions: int, kills: int, rng: random.Random) -> list[str]:
    """A race while the server is killed, or stopped as at a crash, and started again: each time after some answers."""
    children = [child("each", path, str(questions)) for _ in range(processes)]
    first, seen = children[0].stdout, ""
    assert first is not None
    try:
        for process in children[1:]:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
        for n in range(kills):
            seen += "".join(first.readline() for _ in range(questions // (kills + 1)))
            time.sleep(rng.uniform(0, 0.05))
            assert children[0].poll() is None, "it was over before the server was killed"
            server.kill() if n % 2 == 0 else server.stop("immediate")
            server.start()
        results = [(p.communicate(timeout=300), p.returncode) for p in children]
    finally:
        for process in children:
            process.kill()
    assert all(code == 0 for _, code in results), results
    return [seen, *(out for (out, _), _ in results)]


def test_three_processes_race_for_a_budget_and_agree(tmp_path, postgres):
    path = found(tmp_path, postgres, ds.Loss(LOSS.nano * 5))
    gathered = answers(race(path, 3, 8))
    check(path, gathered, 8, 5)
    with ds.City.open(path, clock=lambda: NOW) as city:
        assert city.remaining == ds.Loss(0), "eight questions want it, and five can have it"


def test_a_server_that_is_killed_under_two_processes_loses_and_repeats_nothing(tmp_path, postgres):
    path = found(tmp_path, postgres, ds.zcdp(rho=100))
    gathered = answers(killed(path, postgres, 2, 12, 2, random.Random(1)))
    assert not any("refused" in found for found in gathered.values())
    check(path, gathered, 12, 12 * 2)


@pytest.mark.campaign
@pytest.mark.parametrize("budget", [20, 1_000])
def test_eight_processes_race_on_one_server(tmp_path, postgres, budget):
    path = found(tmp_path, postgres, ds.Loss(LOSS.nano * budget))
    gathered = answers(race(path, 8, 60))
    check(path, gathered, 60, budget)
    with ds.City.open(path, clock=lambda: NOW) as city:
        assert len(city.releases()) == 60 if budget > 60 * 8 else city.remaining == ds.Loss(0)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2))
def test_a_server_that_is_killed_again_and_again_under_eight_processes(tmp_path, postgres, seed):
    path = found(tmp_path, postgres, ds.zcdp(rho=1000))
    gathered = answers(killed(path, postgres, 8, 60, 12, random.Random(seed)))
    assert not any("refused" in found for found in gathered.values())
    check(path, gathered, 60, 60 * 8)
