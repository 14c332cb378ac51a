"""Claim: an aggregator that is killed at any moment goes on where it was, counts nothing twice, and noises once.

Two real processes over HTTP, killed with SIGKILL while reports come, while batches are verified, and around the end.
The loss is so large that the noise is zero but for a probability below 1e-9: what comes out is what went in.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import place
from datasov.aggregator.client import over_http
from datasov.errors import DatasovError, PeerError
from datasov.mpc.report import make_reports
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.helpers import PURPOSE, TRIPS, instant

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
LOUD = ds.zcdp(rho=10_000)
REPORTS = 1_000


def free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


SERVE = """
import sys
from pathlib import Path
from datasov import cli
from datasov.commands import aggregator
folder, city, clock = sys.argv[1:]
aggregator.time.time = lambda: float(Path(clock).read_text())
sys.exit(cli.main(["aggregator", "serve", folder, "--city", city]))
"""


class Process:
    """`datasov aggregator serve` with a clock that a file tells, which can be killed and begun again."""

    def __init__(self, folder, url: str, city: str, clock) -> None:
        self._command = [sys.executable, "-c", SERVE, str(folder), city, str(clock)]
        self._url, self._child = url, None

    def begin(self) -> None:
        self._child = subprocess.Popen(self._command)

    def wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(self._url + "/nothing", content=b"", timeout=5)
                return
            time.sleep(0.05)
        raise AssertionError("it does not answer")

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self._child is not None:
            self._child.send_signal(how)
            self._child.wait()
            self._child = None


def again(call, tries: int = 200):
    """The answer of a call, once the other side is there again."""
    for _ in range(tries):
        try:
            return call()
        except PeerError:
            time.sleep(0.1)
    raise AssertionError("no answer")


class Pair:
    """Two aggregators, the city that they add for, and the time that all three go by."""

    def __init__(self, folder, *, tokens: bool = False) -> None:
        self.clock = folder / "clock"
        self.at(1_800_000_000)
        urls = [f"http://127.0.0.1:{free()}" for _ in range(2)]
        ids = [
            place.make(folder / n, name=n, url=u, budget=ds.zcdp(rho=15_000), tokens=tokens)
            for n, u in zip("ab", urls, strict=True)
        ]
        self.trust = ds.two_server(city=ids[0], council=ids[1])
        self.city = ds.City.open(
            folder / "c.city", budget=ds.zcdp(rho=50_000), purposes=[PURPOSE], trust=self.trust,
            clock=lambda: float(self.now),
        )  # fmt: skip
        self.both = [Process(folder / n, u, str(self.city.id), self.clock) for n, u in zip("ab", urls, strict=True)]
        self.again(*self.both)

    def at(self, now: int) -> None:
        self.now = now
        part = self.clock.with_suffix(".part")
        part.write_text(str(now))
        part.replace(self.clock)

    def again(self, *which, how: int = signal.SIGKILL) -> None:
        for each in which:
            each.kill(how)
        for each in which:
            each.begin()
        for each in which:
            each.wait()

    def ask(self, path: str, body: bytes) -> bytes:
        return over_http(self.trust.aggregators[0], path, body)


@pytest.fixture
def pair(tmp_path):
    made = Pair(tmp_path)
    yield made
    for each in made.both:
        each.kill()
    made.city.close()


def run(pair: Pair, kills: dict[int, slice]) -> None:
    """Reports in uploads of a hundred, after some of which processes are killed; then the end, and a kill in it."""
    end = pair.now + 3600
    signed = pair.city.collect(CELL, loss=LOUD, purpose=PURPOSE, until=instant(end))
    task = read_task(signed)
    chosen = np.random.default_rng(7).integers(0, 5, REPORTS)
    made = make_reports(task, [[np.eye(5, dtype=np.int64)[c][:4]] for c in chosen])
    for number, at in enumerate(range(0, REPORTS, 100)):
        pair.ask("reports", cbor.encode(made[at : at + 100]))
        if number in kills:
            pair.again(*pair.both[kills[number]])
    pair.ask("reports", cbor.encode(made[:50]))  # some come twice
    with pytest.raises(DatasovError, match="open"):
        pair.ask("collect", task.id)
    pair.at(end)
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(pair.trust.aggregators[0].url + "/collect", content=task.id, timeout=0.05)
    pair.again(*pair.both)
    shares = pair.ask("collect", task.id)
    release = pair.city.release(CELL, loss=LOUD, purpose=PURPOSE)
    assert release.values[0].tolist() == np.bincount(chosen, minlength=5)[:4].tolist()
    if len(kills) > 1:
        pair.again(*pair.both, how=signal.SIGTERM)
    assert pair.ask("collect", task.id) == shares, "one draw of noise, persisted"
    with pytest.raises(DatasovError, match="no reports"):
        pair.ask("reports", cbor.encode(made[:1]))
    with pytest.raises(ds.BudgetExceededError, match=r"a:"):
        pair.city.collect(CELL.where(ds.col("km") > 1), loss=LOUD, purpose=PURPOSE, until=instant(end + 1000))


def test_killed_while_reports_come_and_at_the_end_the_release_is_exact_and_the_same_for_ever(pair):
    run(pair, {5: slice(0, 1)})


@pytest.mark.campaign
def test_killed_after_every_upload(pair):
    run(pair, {n: slice(n % 2, 2 - n % 3 // 2) for n in range(10)})
