"""What devices noised themselves, as entities: value, interval, mechanism and loss as released, and no scale."""

from __future__ import annotations

import pytest

import datasov as ds
from datasov import ngsi
from datasov.ngsi.broker import Broker
from datasov.ngsi.outbox import Outbox
from datasov.ngsi.publishing import PROJECTIONS, entities, pieces, publish
from tests.helpers import PURPOSE
from tests.locals import ALL, COUNT, MEAN, PURE, Way, city_of, person
from tests.orion import Orion, served
from tests.servers import LONG, opened


@pytest.mark.parametrize("query", [COUNT, MEAN], ids=["count", "mean"])
@pytest.mark.parametrize(
    ("trust", "enrol", "named"),
    [(ds.local(), False, "local"), (ds.local(), True, "local"), (ALL, False, "central, two_server, local")],
    ids=["tags", "tokens", "several"],
)  # fmt: skip
def test_a_release_with_a_local_part_is_published_as_it_was_released(tmp_path, clock, query, trust, enrol, named):
    city, servers = city_of(tmp_path, clock, trust, enrol=enrol)
    who = person(tmp_path, clock, "w", city, "N", city.trust.part("local"))
    if enrol:
        city.enrol([("w", who.enrolment_key(city.id))])
    task = opened(city, query, clock, PURE)
    city.take(who.answer(task, post=Way(city, servers)))
    clock.now += LONG
    release = city.release(query, loss=PURE, purpose=PURPOSE)
    frame, name = release.frame(), query.aggregates[0].name
    (piece,) = pieces(city)
    assert [(s.value, s.low, s.high) for s in piece.statistics] == list(
        frame.select(name, name + "_low", name + "_high").rows()
    )
    held = Orion()
    with Outbox(tmp_path / "out.db") as outbox, served(held) as (url, _):
        publish([piece], Broker(url, service="city", path="/dp"), outbox, projections=PROJECTIONS).check()
        own = held.held["city", "/dp"]
    for statistic, entity in zip(piece.statistics, entities(piece), strict=True):
        kept = own[entity.identifier]
        assert kept == ngsi.normalized(entity)
        assert kept["value"]["value"] == statistic.value
        assert kept["noiseScale"]["value"] is None
        assert (kept["privacyMeasure"]["value"], kept["epsilon"]["value"]) == ("pure", 1.0)
        assert kept["mechanism"]["value"] == release.mechanism
        assert "randomised response" in release.mechanism
        assert kept["trust"]["value"] == named
    who.close()
    city.close()
