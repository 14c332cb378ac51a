"""Claim: gateway processes on one PostgreSQL server never overspend, and lose nothing and answer nothing twice, also
when the server or one of them is killed in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import datasov as ds
from tests.adversary.asking import LOSS
from tests.audit import audit
from tests.gateways import served
from tests.helpers import PURPOSE, TRIPS, consent_for, contribution
from tests.postgres import Server

Answers = dict[int, set[str]]


def founded(folder: Path, server: Server, budget: ds.Loss) -> Path:
    path, now = folder / "lake.city", int(time.time())
    with ds.City.open(path, budget=budget, purposes=[PURPOSE], store=server.url(), epoch=365 * 86_400) as city:
        pairs = []
        for n in range(8):
            consent = consent_for(city, TRIPS, n, loss=ds.zcdp(rho="0.5"), issued=now - 100, expires=now + 10**8)
            pairs.append((consent, contribution(city, consent, n, 1, TRIPS, [{"district": "NESW"[n % 4], "km": n}])))
        assert city.admit_many(pairs) == [None] * 8
    (folder / "trips.json").write_text(json.dumps(TRIPS.document()))
    return path


def body(number: int) -> dict[str, Any]:
    where = {"column": "km", "gt": -number}
    bound = {"rows": 5, "keys": 2}
    question = {"table": "trips", "keys": ["district"], "where": where, "bound": bound, "ask": ["count", {"sum": "km"}]}
    return {"question": question, "loss": {"rho": "0.01"}, "purpose": PURPOSE}


def asked(url: str, token: str, number: int, key: str | None) -> str:
    """What a client gets that tries again until it has an answer or has no budget: the answer's bytes, or "refused"."""
    headers = {"authorization": f"Bearer {token}", **({} if key is None else {"idempotency-key": key})}
    until = time.monotonic() + 240
    while time.monotonic() < until:
        try:  # each on a connection of its own, to whichever process takes it
            found = httpx.post(url + "/v1/releases", json=body(number), headers=headers, timeout=120)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if found.status_code == 200:
            return found.text
        if found.json()["type"] == "/problems/budget-exceeded":
            return "refused"
        assert found.status_code in (409, 429, 503), found.text
        time.sleep(0.1)
    raise AssertionError(f"question {number} got no answer")


def race(
    url: str, path: Path, clients: int, questions: int, key: Callable[[int, int], str | None],
    meanwhile: Callable[[Callable[[], int]], None] = lambda _: None,
) -> Answers:  # fmt: skip
    """Clients that each ask every question, in an order of their own; `meanwhile` can ask how much was answered."""
    token = path.with_name(path.name + ".token").read_text().strip()
    found: Answers = {n: set() for n in range(questions)}
    faults, done = list[BaseException](), [0]

    def client(name: int) -> None:
        try:
            for number in random.Random(name).sample(range(questions), questions):
                found[number].add(asked(url, token, number, key(name, number)))
                done[0] += 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    meanwhile(lambda: done[0])
    for thread in threads:
        thread.join()
    assert not faults, faults
    return found


def check(path: Path, found: Answers, payable: int) -> None:
    """One answer to each question, all of them stored and no other, and no more reserved than the budget is."""
    given = {number: answers - {"refused"} for number, answers in found.items()}
    assert all(len(answers) <= 1 for answers in given.values()), "two answers to one question"
    with ds.City.open(path) as city:
        reservations, stored = audit(city), city.releases()
        assert reservations <= payable
        assert len({r.query for r in stored}) == len(stored), "a question was answered twice"
        ids = {r.identifier.hex(): r for r in stored}
        for text in (text for answers in given.values() for text in answers):
            told = json.loads(text)
            assert ids[told["id"]].digest.hex() == told["digest"]


def options(path: Path, workers: int) -> list[str]:
    table = str(path.with_name("trips.json"))
    return ["--table", table, "--workers", str(workers), "--tick-ms", "0", "--client-rate", "100000"]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that answer, of those that the server started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.campaign
def test_two_gateways_race_for_one_budget(tmp_path: Path, postgres: Server) -> None:
    path = founded(tmp_path, postgres, ds.Loss(LOSS.nano * 3))
    with served(path, *options(path, 2)) as url:
        found = race(url, path, 3, 5, lambda *_: None)
    check(path, found, 3)
    assert any("refused" in answers for answers in found.values())


@pytest.mark.campaign
@pytest.mark.parametrize("shared", [False, True], ids=["no-keys", "shared-keys"])
@pytest.mark.parametrize("budget", [20, 1_000])
def test_eight_gateways_race_on_one_server(tmp_path: Path, postgres: Server, budget: int, shared: bool) -> None:
    path = founded(tmp_path, postgres, ds.Loss(LOSS.nano * budget))
    with served(path, *options(path, 8)) as url:
        found = race(url, path, 8, 40, lambda _, number: f"q{number}" if shared else None)
    check(path, found, budget)
    if budget > 8 * 40:
        assert not any("refused" in answers for answers in found.values())
    if budget > 8 * 40 and shared:
        with ds.City.open(path) as city:
            assert audit(city) == 40, "a question that came under one key was paid twice"


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2))
def test_killed_servers_and_gateways_lose_and_repeat_nothing(tmp_path: Path, postgres: Server, seed: int) -> None:
    path, rng, started = founded(tmp_path, postgres, ds.zcdp(rho=1000)), random.Random(seed), []

    def kill(done: Callable[[], int]) -> None:
        for n in range(6):
            while done() < 40 * (n + 1):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.05))
            if n % 3 == 2:
                os.kill(rng.choice(workers_of(started[0])), signal.SIGKILL)
                continue
            postgres.kill() if n % 3 == 0 else postgres.stop("immediate")
            postgres.start()

    errors = tmp_path / "errors"
    with served(path, *options(path, 8), errors=errors, started=started) as url:
        found = race(url, path, 8, 40, lambda name, number: f"{name}-{number}" if name % 2 else None, kill)
    assert not any("refused" in answers for answers in found.values())
    check(path, found, 8 * 40 * 4)
    assert "Traceback" not in errors.read_text(), "a fault of the store was told with what it said"


@pytest.mark.campaign
def test_a_process_that_starts_waits_for_the_server(tmp_path: Path, postgres: Server) -> None:
    path, started, errors = founded(tmp_path, postgres, ds.zcdp(rho=1000)), [], tmp_path / "errors"
    token = path.with_name(path.name + ".token")
    with served(path, *options(path, 2), errors=errors, started=started) as url:
        first = asked(url, token.read_text().strip(), 0, None)
        old = set(workers_of(started[0]))
        postgres.stop("immediate")
        try:
            for process in old:
                os.kill(process, signal.SIGKILL)
            while len(new := set(workers_of(started[0])) - old) < 2:
                time.sleep(0.05)
            time.sleep(3)  # by then both have tried to open the city
        finally:
            postgres.start()
        assert asked(url, token.read_text().strip(), 0, None) == first
        assert set(workers_of(started[0])) == new, "a process ended, instead of waiting"
    assert "Traceback" not in errors.read_text()
