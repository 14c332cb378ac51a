"""The estimate of a question's energy: from the plan and public sizes alone."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.errors import InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model.energy import MODEL, OVERHEAD, QUESTION, WATTS, estimate
from tests.helpers import PURPOSE, TRIPS, Clock

Q = ds.query(TRIPS)
BY_DISTRICT = Q.keys("district").bound(rows=3, keys=1)


def of(query):
    return estimate(query, compile(query).statistics)


def test_more_of_anything_public_costs_more():
    one = of(BY_DISTRICT.count())
    assert one.joules(0) > QUESTION * WATTS * OVERHEAD
    assert one.joules(1000) < one.joules(2000)
    assert one.joules(1000, rows=3) == one.joules(1000) < one.joules(1000, rows=50)
    assert of(Q.bound(rows=3).count()).joules(0) < one.joules(0) < of(BY_DISTRICT.count().sum("km")).joules(0)
    assert one.joules(1000) < of(Q.keys("district").bound(rows=3, keys=4).count()).joules(1000)
    several = of(BY_DISTRICT.median("km"))
    assert several.joules(10**6) > one.joules(10**6)
    top = [of(BY_DISTRICT.count().top(k)) for k in (1, 3)]
    assert top[0].joules(0) < top[1].joules(0)


def test_of_unknown_keys_nothing_is_told_by_what_showed():
    shops = ds.Schema("shops", domain="payments", columns={"shop": ds.Integer(0, 10**6)})
    query = ds.query(shops).keys(ds.unknown("shop")).bound(rows=2, keys=2).distinct()
    found = of(query)
    assert found.each > of(ds.query(shops).bound(rows=2).count()).each
    assert found.seconds == QUESTION


def test_it_does_not_depend_on_the_pool(tmp_path):
    """The same question in a city of nobody and in one of twenty, with rows that differ: the same figure."""
    told = []
    for people in (0, 20):
        clock = Clock()
        with ds.City.open(tmp_path / f"{people}.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=clock) as city:
            for n in range(people):
                with ds.Resident.create(tmp_path / f"{n}.vault", device_key=bytes(32), clock=clock) as resident:
                    resident.put(TRIPS, [{"district": "N", "km": 1}] * (n + 1))
                    consent = resident.grant(city.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho=1), until="2030-01-01")
                    city.admit(consent, resident.contribute(consent))
            release = city.release(BY_DISTRICT.count(), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        told.append(release.energy)
        assert release.energy == of(BY_DISTRICT.count())
        assert ds.City.open(tmp_path / f"{people}.city", clock=clock).releases()[0].energy == release.energy
    assert told[0] == told[1]


def test_a_preview_tells_it_before_anything_is_spent_and_a_series_by_the_step(tmp_path):
    clock = Clock()
    with ds.City.open(tmp_path / "lake.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=clock) as city:
        before = city.preview(BY_DISTRICT.count(), loss=ds.zcdp(rho="0.01")).energy
        assert before == of(BY_DISTRICT.count())
        rides = ds.Schema("rides", domain="mobility", columns={"at": ds.Timestamp("2026-01-01", "2030-01-01")})
        series = ds.series(ds.query(rides).count(), every="1d", rows=30, start="2027-01-01", steps=8)
        expected = city.preview(series, loss=ds.zcdp(rho="0.01")).energy
        assert city.follow(series, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE).energy == expected
    assert expected.rows == 30


def test_it_is_told_in_joules_under_the_models_name():
    found = of(BY_DISTRICT.count())
    told = found.document()
    assert told["model"] == MODEL
    assert told["joules"] == found.joules(0)
    assert np.isclose(told["joules"] + 5 * told["joules_per_1000_residents"], found.joules(5000))
    for bad in ((-1, None), (5, -0.5)):
        with pytest.raises(InvalidQueryError, match="zero"):
            found.joules(*bad)
