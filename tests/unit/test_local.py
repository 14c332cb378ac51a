"""Local trust: what a question is on a device, how reports travel, what is estimated and kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.authority import terms, token
from datasov.errors import ConsentError, InternalError, InvalidQueryError, VerificationError
from datasov.kernel import noise
from datasov.kernel.plan import compile
from datasov.model.privacy import Trust
from datasov.mpc import local, permanent
from datasov.mpc.local import MOST_UNARY, Encoding, Tally, encoding, fit, frame, randomise, tally
from tests.helpers import CITY_ID, PURPOSE, TRIPS, Clock
from tests.local_reports import EPSILONS, of_one

ONE = ds.pure(epsilon=1)
COUNT = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
MEAN = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).mean("km")


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("kind", ["unary", "hadamard"])
def test_the_losses_are_at_most_what_was_asked_for_and_nearly_so(epsilon, kind):
    how = Encoding(kind, 5, encoding(5, ds.pure(epsilon=epsilon)).flip)
    assert 0 < how.replace_one <= float(epsilon)
    assert how.replace_one >= float(epsilon) * (1 - 1e-6) - 1e-11
    assert how.add_remove < how.replace_one
    assert math.isclose(how.add_remove, math.log((1 + math.exp(float(epsilon))) / 2), rel_tol=1e-5, abs_tol=1e-11)
    assert how.own > how.other


@pytest.mark.parametrize(("categories", "kind", "size"), [
    (1, "unary", 1), (8, "unary", 1), (9, "unary", 2), (256, "unary", 32), (MOST_UNARY, "unary", 8192),
    (MOST_UNARY + 1, "hadamard", 3), (local.MOST_CATEGORIES, "hadamard", 3),
])  # fmt: skip
def test_the_encoding_errs_least_among_those_that_are_short_enough(categories, kind, size):
    how = encoding(categories, ONE)
    assert (how.kind, how.size) == (kind, size)
    other = Encoding("hadamard", categories, how.flip)
    assert how.deviation(1000) <= other.deviation(1000)
    assert math.isclose(other.deviation(1) ** 2, Encoding("unary", categories, how.flip).deviation(1) ** 2 + 1)


@pytest.mark.parametrize("loss", [ds.zcdp(rho=1), ds.pure(epsilon="16.1")])
def test_losses_that_are_none_of_a_device(loss):
    with pytest.raises(InvalidQueryError, match="pure epsilon"):
        encoding(4, loss)


@pytest.mark.parametrize("categories", [0, local.MOST_CATEGORIES + 1])
def test_numbers_of_categories(categories):
    with pytest.raises(InvalidQueryError, match="categories"):
        encoding(categories, ONE)


def test_a_randomiser_that_would_cost_more_than_the_loss_does_not_draw():
    how = encoding(4, ONE)
    noise.respond(b"\0", how.flip, ONE)
    with pytest.raises(InternalError, match="exceeds"):
        noise.respond(b"\0", how.flip - 1e-6, ONE)
    with pytest.raises(InternalError, match="exceeds"):
        randomise(0, how, ds.pure(epsilon="0.999999"))


@pytest.mark.parametrize("how", [Encoding("unary", 11, 0.2), Encoding("hadamard", 11, 0.2)])
def test_reports_of_a_form_that_is_none_are_refused(how):
    good = bytes(how.size)
    local.check(how, good)
    assert how.size == (2 if how.kind == "unary" else 1)
    high = b"\x00\x08" if how.kind == "unary" else b"\x10"
    for bad in (b"", good + b"\0", good[:-1], high, bytearray(good), None):
        with pytest.raises(VerificationError):
            tally(how, [good, bad])
    assert tally(how, []).reports == 0


@pytest.mark.parametrize("kind", ["unary", "hadamard"])
@pytest.mark.parametrize("categories", [1, 2, 3, 7, 8, 9, 31, 32])
def test_every_report_is_counted_where_it_supports(kind, categories):
    """All reports of a small size, against the definition: a bit, or the parity of row and column."""
    how = Encoding(kind, categories, 0.25)
    words = range(min(1 << how.bits, 600))
    added = tally(how, [w.to_bytes(how.size, "little") for w in words])
    if kind == "unary":
        expected = [sum(w >> c & 1 for w in words) for c in range(categories)]
    else:
        expected = [sum((w & (c + 1)).bit_count() % 2 == 0 for w in words) for c in range(categories)]
    assert added.supports.tolist() == expected
    assert added.reports == len(words)


@pytest.mark.parametrize("kind", ["unary", "hadamard"])
def test_estimates_of_expected_supports_are_the_numbers(kind):
    how = Encoding(kind, 3, 0.25)
    true, n = np.array([60, 0, 20]), 100
    expected = true * how.own + (n - true) * how.other
    assert np.allclose(Tally(how, expected, n).estimates(), true)
    low, high = Tally(how, expected, n).intervals(0.95)
    assert (low <= true).all()
    assert (true <= high).all()
    assert (low >= 0).all()
    assert (high <= n).all()
    assert (Tally(how, expected, n).intervals(0.5)[1] < high + 1e-9).all()


@given(st.integers(1, 50), st.data())
def test_intervals_lie_around_the_estimate_and_within_what_can_be(n, data):
    how = Encoding("unary", 1, 0.25)
    seen = np.array([data.draw(st.integers(0, n))])
    added = Tally(how, seen, n)
    (low,), (high,) = added.intervals(0.9)
    assert 0 <= low <= high <= n
    assert low <= np.clip(added.estimates()[0], 0, n) <= high


def test_no_reports_say_nothing():
    low, high = Tally(encoding(3, ONE), np.zeros(3, dtype=np.int64), 0).intervals(0.95)
    assert low.tolist() == high.tolist() == [0, 0, 0]


def test_a_count_is_one_category_and_a_mean_two_ends():
    count, mean = fit(compile(COUNT), ONE), fit(compile(MEAN), ONE)
    assert (count.how.categories, count.total) == (4, None)
    assert (mean.how.categories, mean.low, mean.high) == (8, -25, 25)
    assert count.category([np.array([0, 0, 1, 0])]) == 2
    assert count.category([np.zeros(4, dtype=np.int64)]) is None
    assert mean.category(of_one(mean, 4, cell=3, value=25)) == 7
    assert mean.category(of_one(mean, 4, cell=3, value=-25)) == 6
    assert mean.category([np.zeros(4, dtype=np.int64)] * 2) is None


@pytest.mark.parametrize("query", [
    ds.query(TRIPS).keys("district").bound(rows=2, keys=1).count(),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=2).count(),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count().distinct(),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).variance("km"),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).sum("km").mean("km"),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).sum("km", low=3, high=9),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).median("km", bins=4),
    ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count().top(2),
])  # fmt: skip
def test_what_is_no_frequency_or_mean_is_refused_with_those_who_can(query):
    with pytest.raises(InvalidQueryError, match="two servers or central"):
        fit(compile(query), ONE)


def test_a_nullable_value_is_counted_by_those_who_have_one():
    rides = ds.Schema(
        "rides", domain="mobility", keys=[("d",)],
        columns={"d": ds.Category("ab"), "km": ds.Integer(0, 9, nullable=True)},
    )  # fmt: skip
    asked = ds.query(rides).keys("d").bound(rows=1, keys=1)
    assert fit(compile(asked.mean("km")), ONE).count is not None
    with pytest.raises(InvalidQueryError, match="two servers"):
        fit(compile(asked.count().sum("km")), ONE)
    assert fit(compile(asked.sum("km")), ONE).count is None


def test_a_sum_without_a_count_needs_no_cell_for_those_who_add_nothing():
    found = fit(compile(ds.query(TRIPS).keys("district").bound(rows=1, keys=1).sum("km")), ONE)
    assert (found.count, found.low, found.high) == (None, 0, 50)
    assert found.category(of_one(found, 4, 1, 0)) is None
    assert found.category(of_one(found, 4, 1, 50)) == 3


@pytest.mark.parametrize("value", [-25, -24, -15, 0, 24, 25])
def test_values_are_rounded_to_their_ends_without_bias(value, monkeypatch):
    """Of the 50 outcomes of the draw, as many give the upper end as the value lies above the lower one."""
    found = fit(compile(MEAN), ONE)
    draws = iter(range(50))
    monkeypatch.setattr("secrets.randbelow", lambda n: next(draws) if n == 50 else pytest.fail("another range"))
    assert sum(found.category(of_one(found, 4, 0, value)) for _ in range(50)) == value + 25


@pytest.mark.parametrize("query", [
    COUNT, MEAN, COUNT.mean("km"), COUNT.sum("km"), ds.query(TRIPS).keys("district").bound(rows=1, keys=1).distinct(),
])  # fmt: skip
def test_the_frame_of_expected_supports_is_the_truth(query):
    """Expected supports of 400 residents, of whom 100 sent a null report: values are exact, intervals around them."""
    plan = compile(query)
    found = fit(plan, ONE)
    counts, sums = np.array([100, 50, 150, 0]), np.array([1000, 2500, 0, 0])
    if found.total is None:
        true = counts
    else:
        upper = sums / 50
        true = np.stack([counts - upper, upper], axis=1).reshape(-1)
    how = found.how
    shown = frame(plan, found, Tally(how, true * how.own + (400 - true) * how.other, 400))
    assert shown["district"].to_list() == ["N", "E", "S", "W"]
    if found.total is not None and "count" in shown.columns:
        ends = Tally(how, true * how.own + (400 - true) * how.other, 400).intervals(0.975)
        assert np.allclose(shown["count_high"].to_numpy(), ends[1].reshape(-1, 2).sum(axis=1)), "both ends at once"
    for aggregate in query.aggregates:
        mean = np.array([10, 50, 0, np.nan])
        expected = {"count": counts, "distinct": counts, "sum": sums, "mean": mean}[aggregate.kind]
        values, low, high = (shown[aggregate.name + end].to_numpy() for end in ("", "_low", "_high"))
        known = ~np.isnan(expected.astype(float))
        assert np.allclose(values[known], expected[known])
        assert (low[known] <= expected[known]).all()
        assert (expected[known] <= high[known]).all()
        if aggregate.kind == "mean":
            assert ((low >= 0) & (high <= 50) & (values >= 0) & (values <= 50)).all()


def test_a_question_is_kept_under_all_that_makes_it_but_time():
    base = {"city": str(CITY_ID), "query": COUNT, "loss": ONE, "purpose": PURPOSE}
    asked = permanent.Asked(**base)
    assert asked.note == permanent.Asked(**base, renewal=permanent.renewal(7, 0)).note
    others = [{"city": "x"}, {"query": MEAN}, {"loss": ds.pure(epsilon=2)}, {"purpose": "other"}, {"renewal": 1}]
    assert len({asked.note, *(permanent.Asked(**{**base, **other}).note for other in others)}) == 6
    assert asked.note.startswith(permanent.NOTE)


def test_renewals_are_counted_from_public_epochs():
    assert [permanent.renewal(e, 4) for e in (0, 3, 4, 11)] == [0, 0, 1, 2]
    assert permanent.renewal(10**6, 0) == 0
    for wrong in ((-1, 4), (4, -1)):
        with pytest.raises(InvalidQueryError):
            permanent.renewal(*wrong)
    assert permanent.longitudinal(ONE, 3) == ds.pure(epsilon=4)


def test_a_report_is_kept_and_charged_once_and_a_null_one_never():
    asked = permanent.Asked(str(CITY_ID), COUNT, ONE, PURPOSE)
    vectors = [np.array([0, 1, 0, 0])]
    report, charged = asked.report(None, vectors)
    assert charged == ONE
    assert asked.report(report, vectors) == (report, ds.Loss(0, "pure"))
    assert asked.report(report, None) == (report, ds.Loss(0, "pure"))
    assert asked.report(report, [np.array([1, 0, 0, 0])]) == (report, ds.Loss(0, "pure")), "until the next renewal"
    null, free = asked.report(None, None)
    assert free == ds.Loss(0, "pure")
    assert len(null) == len(report) == asked.fit.how.size
    with pytest.raises(VerificationError):
        asked.report(b"not a report", None)
    nobody, paid = asked.report(None, [np.zeros(4, dtype=np.int64)])
    assert paid == ONE, "that there is no row is data too"
    assert len(nobody) == len(report)


def test_the_trust_is_a_name_that_tokens_carry():
    assert ds.local() == Trust("local") == Trust.parse("local") == Trust.from_document({"model": "local"})
    assert terms._trust("local") == ds.local() != ds.central()
    assert ds.local().draws == 0
    with pytest.raises(ConsentError):
        terms._trust("locale")
    with pytest.raises(ConsentError):
        terms._trust("local+AAAA")


def test_a_consent_under_it_is_granted_and_read_and_gives_no_rows(tmp_path):
    clock = Clock()
    with ds.Resident.create(tmp_path / "v.vault", device_key=bytes(range(32)), clock=clock) as who:
        who.put(TRIPS, [{"district": "N", "km": 7}])
        consent = who.grant(CITY_ID, TRIPS, purpose=PURPOSE, loss=ONE, until="2028-12-31", trust=ds.local())
        read = token.read(consent.token)
        assert read.claims.trust == ds.local()
        assert read.claims.loss == ONE
        with pytest.raises(ConsentError, match="no row leaves"):
            who.contribute(consent)
