"""Minimum cohorts: what is withheld depends on noised values alone, and how it shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import InvalidQueryError, ProgrammeError
from datasov.kernel.plan import compile
from datasov.model.cohort import withhold
from datasov.model.plan import Noised
from datasov.model.template import Allowed
from datasov.tlog import record
from tests.governing import BASE, COUNTS, TEMPLATE, charter_for, governed_city, programme_for, release, signed
from tests.helpers import PURPOSE, TRIPS, Clock, enrol

LOUD = ds.zcdp(rho=500)
"""A loss with next to no noise, so that a test knows what the noised values are."""
AGGREGATES = ("count", "distinct", "coverage", "rows", "keys")


@pytest.fixture
def city(tmp_path):
    """Twelve residents in N, four in E, none in S and W; a programme with a cohort of 8."""
    clock = Clock()
    with ds.City.open(
        tmp_path / "x.city",
        clock=clock,
        budget=ds.zcdp(rho=10**5, delta="0.01"),
        purposes=[PURPOSE],
        processing="JP-25",
    ) as found:
        found.adopt(signed(charter_for(found, notice_days=0)))
        enrol(found, range(16), lambda n: [{"district": "N" if n < 12 else "E", "km": n}] * 2, loss=ds.zcdp(rho=10**5))
        kinds = (*(Allowed(k) for k in AGGREGATES), *(Allowed(k, "km") for k in ("sum", "mean", "quantile")))
        template = dataclasses.replace(
            TEMPLATE, keys=(ds.Key("district"), ds.unknown("km")), aggregates=kinds, top=2, rows=255, bound_keys=63
        )
        wide = {"template": template, "largest": LOUD, "total": ds.zcdp(rho=10**5, delta="0.001"), "period_days": 0}
        found.approve(signed(programme_for(found, cohort=8, period=None, **wide)))
        yield found


def test_cells_below_the_cohort_show_as_nulls_with_their_keys(city):
    answer = release(city, BASE.count().distinct().sum("km").mean("km").median("km"), LOUD)
    frame = answer.frame(adjusted=True)
    assert frame["district"].to_list() == list("NESW")
    assert answer.withheld == (1, 2, 3)
    assert answer.cohort == 8
    for name in frame.columns[1:]:
        assert frame[name].null_count() == 3, name
        assert frame[name][0] is not None, name
    sure = answer.frame(confidence=1 - 1e-9)
    assert sure["count_low"][0] <= 24 <= sure["count_high"][0]
    assert frame["count"][0] == frame["count_adjusted"][0]
    assert all((np.delete(v.reshape(4, -1), 0, axis=0) == 0).all() for v in answer.values), "nothing of them is stored"


def test_the_stored_release_is_the_withheld_one(city):
    answer = release(city, COUNTS, LOUD)
    (stored,) = city.releases()
    assert stored.digest == answer.digest
    assert stored.withheld == answer.withheld
    assert not any(v[1:].any() for v in stored.values)
    assert ds.Release.from_document(answer.document(), {i: v.tobytes() for i, v in enumerate(answer.values)}).frame(
    ).equals(answer.frame())  # fmt: skip


def test_unknown_keys_below_the_cohort_are_absent(city):
    loss = ds.zcdp(rho=400, delta="0.0001")
    query = ds.query(TRIPS).keys(ds.unknown("km")).bound(rows=2, keys=1).count().distinct()
    template = dataclasses.replace(TEMPLATE, keys=(ds.unknown("km"),), rows=5)
    city.approve(signed(programme_for(
        city, name="thresholded", mechanisms=("discrete Gaussian, thresholded",), largest=loss, cohort=2,
        total=ds.zcdp(rho=1000, delta="0.001"), period=None, period_days=0, template=template,
    )))  # fmt: skip
    enrol(city, range(100, 105), lambda n: [{"district": "S", "km": 40}], loss=ds.zcdp(rho=10**5, delta="0.01"))
    answer = release(city, query, loss)
    assert answer.frame()["km"].to_list() == [40], "those of one resident each are not there"
    assert answer.withheld == ()


def test_numbers_about_the_whole_are_withheld_together(city):
    query = ds.query(TRIPS).keys("district").bound(rows=9, keys=4)
    asked = query.coverage().rows_per_key("0.9", high=9).keys_per_resident("0.9", high=4)
    assert release(city, asked, LOUD).overall().null_count().sum_horizontal()[0] == 0
    few = release(city, asked.where(ds.col("km") >= 12), LOUD)
    assert few.withheld_whole
    overall = few.overall()
    assert overall.null_count().sum_horizontal()[0] == overall.width == 9
    assert not any(v.any() for v in few.values)


@pytest.mark.parametrize(("query", "match"), [
    (BASE.count(), "distinct"), (BASE.sum("km"), "distinct"), (BASE.count().coverage(), "distinct"),
    (BASE.rows_per_key("0.5"), "coverage"), (BASE.distinct().keys_per_resident("0.5"), "coverage"),
    (BASE.count().top(1), "top"), (BASE.distinct().top(1), "top"),
])  # fmt: skip
def test_a_question_without_a_number_of_residents_is_refused(city, query, match):
    city.approve(signed(programme_for(
        city, name="top", cohort=8, mechanisms=("noisy max (zcdp)",), largest=LOUD, total=LOUD, period=None,
        period_days=0, template=dataclasses.replace(TEMPLATE, top=2),
    )))  # fmt: skip
    with pytest.raises(ProgrammeError, match=match):
        release(city, query, LOUD)
    assert city.remaining == city.budget


def test_suggested_bounds_ask_for_the_cohort_and_stay_within_the_template(city):
    found = city.suggest_bounds(BASE.sum("km"), loss=LOUD, purpose="bus-planning")
    assert (found.rows, found.keys) == (2, 1)
    assert found.releases[0].withheld_whole is False
    assert found.clips["km"][1] >= 13
    with pytest.raises(InvalidQueryError, match="minimum cohort"):
        city.suggest_bounds(BASE.sum("km").where(ds.col("km") > 12), loss=LOUD, purpose="bus-planning")


def test_a_template_of_small_bounds_is_kept_by_suggestions(tmp_path):
    clock = Clock()
    with governed_city(tmp_path, clock, notice_days=0) as city:
        kinds = tuple(map(Allowed, ("rows", "keys", "coverage")))
        city.approve(signed(programme_for(city, template=dataclasses.replace(TEMPLATE, aggregates=kinds))))
        found = city.suggest_bounds(BASE.count(), loss=ds.zcdp(rho="0.01"), purpose="bus-planning")
        assert found.rows <= 5
        assert found.keys <= 2


PLAN = compile(ds.query(TRIPS).keys("district").bound(rows=3, keys=2).count().distinct().median("km").coverage())


def noised(residents, coverage, fill) -> Noised:
    rng = np.random.default_rng(fill)
    values = [rng.integers(-50, 50, s.size(PLAN.cells)) for s in PLAN.statistics]
    kinds = [s.kind for s in PLAN.statistics]
    values[kinds.index("distinct")] = np.array(residents, dtype=np.int64)
    values[kinds.index("coverage")] = np.array([coverage], dtype=np.int64)
    return Noised(bytes(16), tuple(values))


@given(
    st.lists(st.integers(-30, 30), min_size=4, max_size=4), st.integers(-30, 30), st.integers(1, 30),
    st.integers(0, 99), st.integers(0, 99),
)  # fmt: skip
def test_what_is_withheld_is_a_function_of_the_noised_residents_alone(residents, coverage, cohort, one, other):
    """Whatever else was noised: the same cells go, the others stay as they are, and who is at the minimum stays."""
    kept = [withhold(PLAN.statistics, noised(residents, coverage, fill), cohort) for fill in (one, other)]
    expected = tuple(i for i, n in enumerate(residents) if n < cohort)
    for fill, each in zip((one, other), kept, strict=True):
        assert (each.cells, each.whole) == (expected, coverage < cohort)
        before = noised(residents, coverage, fill)
        for statistic, old, new in zip(PLAN.statistics, before.values, each.noised.values, strict=True):
            gone = coverage < cohort if statistic.whole else np.repeat(np.array(residents) < cohort, statistic.width)
            assert np.array_equal(new, np.where(gone, 0, old))


def test_no_cohort_withholds_nothing():
    made = noised([-5, 0, 1, 2], -9, 1)
    assert withhold(PLAN.statistics, made, 0).noised is made


def test_what_withholds_is_given_noised_values_and_nothing_else(city, monkeypatch):
    """By construction: its arguments are public statistics, a Noised and the minimum; the kernel's Exact stays."""
    seen = []
    real = record.withhold

    def watched(*given):
        seen.append(given)
        return real(*given)

    monkeypatch.setattr(record, "withhold", watched)
    release(city, COUNTS, LOUD)
    ((statistics, made, cohort),) = seen
    assert statistics == compile(COUNTS).statistics
    assert type(made) is Noised
    assert cohort == 8
