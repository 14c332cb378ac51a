"""Two servers from the question to the receipt, both aggregators in this process."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.model.noise import Noise
from datasov.mpc.report import make_reports
from datasov.mpc.task import read_task
from tests.helpers import PURPOSE, TRIPS
from tests.servers import LONG, LOSS, Servers, grant, made_task, opened, resident, silent, two_server_city, vectors
from tests.statistical.significance import discrete_gaussian, discrete_laplace

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()


@pytest.fixture
def pair(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    yield city, servers
    city.close()


def test_a_count_comes_out_as_it_is_and_refusals_count_for_nothing(pair, clock, tmp_path, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    task = opened(city, CELL, clock)
    reports = []
    for n in range(8):
        who = resident(tmp_path, clock, n, {TRIPS: [{"district": "NESW"[n % 3], "km": n}]})
        if n != 5:
            grant(who, city)
        reports.append(who.answer(task, refuse=n == 6))
        assert who.answer(task) == reports[-1], "asked again, the same bytes"
        who.close()
    assert len({len(r) for r in reports}) == 1
    servers.upload(reports)
    clock.now += LONG
    release = city.release(CELL, loss=LOSS, purpose=PURPOSE)
    assert release.values[0].tolist() == [2, 3, 1, 0]  # 0, 3 | 1, 4, 7 | 2
    assert city.release(CELL, loss=LOSS, purpose=PURPOSE).digest == release.digest
    assert len(city.releases()) == 1


def test_what_was_seen_is_forgotten_once_the_share_is_noised(clock):
    signed, _ = made_task(CELL, clock)
    task = read_task(signed)
    servers = Servers(clock, task.city)
    servers.leader.handle("tasks", signed)
    reports = make_reports(task, [vectors(task, [1, 0, 0, 0])] * 3)
    servers.upload(reports)
    clock.now += LONG
    first = servers.leader.handle("collect", task.id)

    def marks() -> list[int]:
        return [len(who._held[task.id].nonces._runs) for who in servers.both]

    assert marks() == [0, 0]
    servers.restart()
    assert servers.leader.work() == 0
    assert servers.leader.handle("collect", task.id) == first
    assert marks() == [0, 0]


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999999])
@pytest.mark.parametrize("scale", [0.3, 1.7, 2.9, 3.1, 20.5])
@pytest.mark.parametrize("measure", ["zcdp", "pure"])
def test_intervals_are_of_both_noises_together(measure, scale, confidence):
    law = discrete_gaussian if measure == "zcdp" else discrete_laplace
    _, mass = law(scale)
    both = np.convolve(mass, mass)
    middle, width = len(both) // 2, Noise(scale, measure, 2).half_width(confidence)
    assert both[middle - width : middle + width + 1].sum() >= confidence - 1e-12
    assert width == 0 or both[middle - width + 1 : middle + width].sum() < confidence
