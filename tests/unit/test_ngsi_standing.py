"""A standing question at a broker: each step is counted and published once, through stops and a broker that fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov import ngsi
from datasov.errors import InvalidQueryError
from datasov.ngsi import standing
from datasov.ngsi.broker import Broker
from datasov.ngsi.outbox import Outbox
from datasov.ngsi.publishing import Report, entities
from datasov.tlog.leaves import StepLeaf, decode_leaf
from tests.helpers import PURPOSE, Clock
from tests.ngsi import BEGIN, LOSS, WALKS, city_at
from tests.orion import Orion, served

DAY = 86_400
DAILY = ds.series(ds.query(WALKS).keys("mesh").count(), every="1d", rows=10, start="2027-01-01", steps=4, delay="1h")
FIRST = BEGIN - 9 * 3600  # midnight in Tokyo


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGIN)


@pytest.fixture
def city(tmp_path: Path, clock: Clock) -> Iterator[ds.City]:
    with city_at(tmp_path, clock, people=12) as found:
        yield found


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox") as found:
        yield found


@pytest.fixture
def orion() -> Iterator[tuple[Orion, Broker, list[Any]]]:
    made = Orion()
    with served(made) as (url, seen):
        yield made, Broker(url, retries=1, sleep=lambda _: None), seen


def held(orion: Orion) -> dict[str, dict[str, Any]]:
    return orion.held.get(("", "/"), {})


def follow(city: ds.City, broker: Broker, outbox: Outbox, clock: Clock, **options: Any) -> list[Report]:
    told: list[Report] = []
    given = {"once": True, "told": told.append, "clock": clock, **options}
    standing.follow(city, DAILY, broker, outbox, loss=LOSS, purpose=PURPOSE, **given)
    return told


def test_the_horizon_is_charged_once_and_each_step_is_published_once(city, clock, outbox, orion):
    made, broker, seen = orion
    (report,) = follow(city, broker, outbox, clock)
    spent = city.remaining
    assert (report.delivered, held(made), spent) == ([], {}, ds.zcdp(rho="0.98"))
    steps = []
    for day in range(1, 6):
        clock.now = FIRST + day * DAY + 3600
        for _ in range(2):
            (report,) = follow(city, broker, outbox, clock)
            steps += [step for _, step in report.delivered]
    assert steps == [0, 1, 2, 3]
    assert city.remaining == spent
    assert len(seen) == 4
    (series,) = city.standing()
    leaves = [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, StepLeaf)]
    assert [leaf.step for leaf in leaves] == [0, 1, 2, 3]
    last = {e.identifier: ngsi.normalized(e) for p in ngsi.pieces(city) for e in entities(p, "question")}
    assert held(made) == last
    assert {e["step"]["value"] for e in last.values()} == {3}
    numbers = [e["value"]["value"] for e in last.values()]
    assert numbers == series.total(3, 4).tolist()
    assert {e["localFrom"]["value"] for e in last.values()} == {"2027-01-04T00:00:00+09:00"}
    assert {e["mechanism"]["value"] for e in last.values()} == {"discrete Gaussian, binary tree"}


def test_by_release_every_step_has_entities_of_its_own_that_a_frame_agrees_with(city, clock, outbox, orion):
    made, broker, _ = orion
    follow(city, broker, outbox, clock, by="release")
    clock.now = FIRST + 3 * DAY + 3600
    follow(city, broker, outbox, clock, by="release")
    frame = city.follow(DAILY, loss=LOSS, purpose=PURPOSE).frame(last=1)
    found = sorted(held(made).values(), key=lambda e: (e["step"]["value"], e["cell"]["value"]))
    told = [
        tuple(e[n]["value"] for n in ("step", "key_mesh", "value", "low", "high")) for e in found
    ]  # fmt: skip
    assert told == frame.select("step", "mesh", "count", "count_low", "count_high").rows()
    assert len(told) == 6
    assert [e["dateObservedFrom"]["value"][:13] for e in found[::2]] == [
        "2026-12-31T15",
        "2027-01-01T15",
        "2027-01-02T15",
    ]


def test_while_the_broker_is_away_steps_are_counted_and_later_published_as_they_were(city, clock, tmp_path, outbox):
    made = Orion()
    with served(made) as (url, _):
        pass
    broker = Broker(url, retries=0, sleep=lambda _: None)
    follow(city, broker, outbox, clock)
    clock.now = FIRST + 2 * DAY + 3600
    (report,) = follow(city, broker, outbox, clock)
    assert (len(report.failed), len(report.left)) == (1, 1)
    counted = [p.statistics for p in ngsi.pieces(city)]
    with served(made) as (url, seen):
        (report,) = follow(city, Broker(url), outbox, clock, by="release")
    assert [step for _, step in report.delivered] == [0, 1]
    bodies = [e for *_, body in seen for e in json.loads(body)["entities"]]
    assert [e["value"]["value"] for e in bodies] == [s.value for each in counted for s in each]


def test_a_runner_that_is_stopped_and_started_again_loses_and_doubles_nothing(city, clock, outbox, orion):
    made, broker, seen = orion
    stop, rounds = threading.Event(), []

    def told(report: Report) -> None:
        rounds.append(report)
        clock.now = FIRST + (len(rounds)) * DAY + 3600
        if len(rounds) == 3:
            stop.set()

    waits: list[float] = []
    stop.wait = lambda seconds: (waits.append(seconds), stop.is_set())[1]  # type: ignore[method-assign, assignment]
    found = standing.follow(
        city, DAILY, broker, outbox, loss=LOSS, purpose=PURPOSE, stop=stop, told=told, clock=clock, by="release"
    )
    assert (len(rounds), len(found.outputs)) == (3, 2)
    stop.clear()
    found = standing.follow(
        city, DAILY, broker, outbox, loss=LOSS, purpose=PURPOSE, stop=stop, told=told, clock=clock, by="release"
    )
    assert len(found.outputs) == 4
    assert [step for r in rounds for _, step in r.delivered] == [0, 1, 2, 3]
    assert (len(seen), len(held(made)), city.remaining) == (4, 8, ds.zcdp(rho="0.98"))
    assert all(0 < w <= standing.LONGEST for w in waits)


def test_a_runner_whose_last_step_did_not_reach_the_broker_goes_on(city, clock, outbox):
    made, failing, rounds = Orion(), [True], list[Report]()

    def told(report: Report) -> None:
        rounds.append(report)
        failing.clear()

    clock.now = FIRST + 5 * DAY
    with served(lambda *asked: (400, {}, {}) if failing else made(*asked)) as (url, _):
        stop = threading.Event()
        stop.wait = lambda _: False  # type: ignore[method-assign, assignment]
        city.follow(DAILY, loss=LOSS, purpose=PURPOSE)
        standing.follow(
            city,
            DAILY,
            Broker(url),
            outbox,
            loss=LOSS,
            purpose=PURPOSE,
            stop=stop,
            told=told,
            clock=clock,
            by="release",
        )
    assert [len(r.failed) for r in rounds] == [4, 0]
    assert len(held(made)) == 8


def test_the_wait_is_until_a_public_time(clock):
    assert standing.pause(DAILY, 0, FIRST + DAY + 3570, False) == 30
    assert standing.pause(DAILY, 0, FIRST, False) == standing.LONGEST
    assert standing.pause(DAILY, 1, FIRST + DAY + 3600, False) == standing.LONGEST
    assert standing.pause(DAILY, 0, FIRST + 9 * DAY, True) == standing.LONGEST
    assert 0 < standing.pause(DAILY, 0, FIRST + 9 * DAY, False) < 1


def test_a_city_names_its_series_and_counts_nothing_by_that(city, clock):
    assert city.standing() == []
    opened = city.follow(DAILY, loss=LOSS, purpose=PURPOSE)
    other = ds.series(DAILY.query.where(ds.col("距離") > 3), every="1d", rows=5, start="2027-01-01", steps=2)
    second = city.follow(other, loss=LOSS, purpose=PURPOSE)
    clock.now = FIRST + 2 * DAY + 3600
    assert [(s.identifier, len(s.outputs)) for s in city.standing()] == [(opened.identifier, 0), (second.identifier, 0)]
    counted = city.follow(DAILY, loss=LOSS, purpose=PURPOSE)
    (first, _) = city.standing()
    assert [[n.tolist() for n in nodes] for nodes in first.outputs] == [
        [n.tolist() for n in nodes] for nodes in counted.outputs
    ]
    assert (first.times, first.series, first.loss) == (counted.times, DAILY, LOSS)
    assert city.releases() == []


def test_a_step_that_is_not_released_has_no_numbers(city):
    opened = city.follow(DAILY, loss=LOSS, purpose=PURPOSE)
    with pytest.raises(InvalidQueryError, match="were released"):
        ngsi.of_step(opened, 0, ngsi.statistic.Proof("o", 0, ""))


# --- what a consumer is told


def test_a_subscriber_hears_of_every_step_also_where_the_number_stays(city, clock, outbox, orion):
    made, broker, _ = orion
    made("POST", "/v2/subscriptions", {}, ngsi.subscription("http://consumer/n"))
    follow(city, broker, outbox, clock)
    for day in (1, 2, 3):
        clock.now = FIRST + day * DAY + 3600
        follow(city, broker, outbox, clock)
        follow(city, broker, outbox, clock)
    found = [ngsi.notified(json.dumps({"subscriptionId": "x", "data": data}).encode()) for data in made.notified]
    assert [one.values["step"].value for (one,) in found] == [0, 0, 1, 1, 2, 2]
    (series,) = city.standing()
    assert [one.values["value"].value for (one,) in found] == [v for s in range(3) for v in series.total(s, s + 1)]


def test_a_subscription_asks_for_metadata_and_for_one_question():
    made = ngsi.subscription("http://consumer/n", query="ab")
    assert made["notification"]["metadata"] == ["*"]
    assert made["subject"]["condition"] == {
        "attrs": ["value", "releaseId", "step"], "expression": {"q": "queryHash==ab"},
    }  # fmt: skip
    for url in ("consumer", "ftp://x", "http://x/?a=1"):
        with pytest.raises(InvalidQueryError, match="consumer's URL"):
            ngsi.subscription(url)
