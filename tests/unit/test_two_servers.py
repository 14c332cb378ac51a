"""Two servers from the question to the receipt, both aggregators in this process."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import place
from datasov.model.noise import Noise
from datasov.mpc.report import make_reports
from datasov.mpc.task import read_task
from datasov.wire import cbor
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


def test_no_file_of_an_aggregator_holds_the_exact_share_once_the_noised_one_left(tmp_path, clock):
    names, opened_ = ("leader", "helper"), {}
    made = [place.make(tmp_path / n, name=n, url=f"https://{n}.example", budget=LOSS, tokens=False) for n in names]
    trust = ds.Trust.from_document({"model": "two_server", "aggregators": [each.document() for each in made]})
    signed, _ = made_task(ds.query(TRIPS).bound(rows=1, keys=1).count(), clock, trust=trust)
    task = read_task(signed)
    for n in names:
        opened_[n] = place.open_(
            tmp_path / n, [task.city], clock=lambda: clock.now, post=lambda to, *what: opened_[to.name].handle(*what)
        )
    leader = opened_["leader"]
    leader.handle("tasks", signed)
    leader.handle("reports", cbor.encode(make_reports(task, [vectors(task, [1])] * 5)))
    clock.now += LONG
    while leader.aggregator.work():
        pass
    exact = {n: cbor.decode(o.store.blob("sum/" + task.id.hex()))[4][0] for n, o in opened_.items()}

    def found() -> list[bool]:
        return [any(exact[n] in f.read_bytes() for f in (tmp_path / n).iterdir()) for n in names]

    assert found() == [True, True]
    leader.handle("collect", task.id)
    assert found() == [False, False]
    for each in opened_.values():
        each.close()


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
