"""Series: how they are made, opened, followed, shown, logged and refused."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import BudgetExceededError, ConsentError, InvalidQueryError, ProofError, StoreError
from datasov.kernel import series as kernel_series
from datasov.model.noise import sum_half_width
from datasov.model.privacy import Loss
from datasov.model.series import series_from_document
from datasov.tlog.leaves import ReleaseLeaf, StepLeaf, decode_leaf, encode_leaf
from tests.helpers import PURPOSE, Clock, enrol, found_city

DAY, BEGIN = 86_400, 1_798_761_600  # 2027-01-01 UTC
RIDES = ds.Schema(
    "rides", domain="mobility", keys=[("ward",)],
    columns={"ward": ds.Category(["a", "b"]), "km": ds.Decimal(0, 50, scale=1), "shop": ds.Integer(0, 10**6),
             "at": ds.Timestamp("2027-01-01", "2027-02-01", zone="UTC")},
)  # fmt: skip
COUNT = ds.query(RIDES).keys("ward").count()
LOSS = ds.zcdp(rho="0.01")


def rides(days: int = 8) -> list[dict[str, object]]:
    return [{"ward": "a", "km": 2.5, "shop": 1, "at": f"2027-01-{d:02}T12:00"} for d in range(1, days + 1)]


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGIN)


# --- making one


def test_a_series_reads_its_horizon_off_the_table():
    made = ds.series(COUNT, every="1d", rows=9)
    assert (made.at, made.start, made.every, made.steps, made.rows) == ("at", BEGIN * 10**6, DAY * 10**6, 32, 9)
    assert made.levels == 6
    named = ds.series(COUNT, every=dt.timedelta(hours=6), rows=9, at="at", start="2027-01-05", steps=10, delay="2h")
    assert named.start == (BEGIN + 4 * DAY) * 10**6
    assert [named.over(BEGIN + 4 * DAY + h * 3600) for h in (0, 7, 8, 14, 10**4)] == [0, 0, 1, 2, 10]


TWO = ds.Schema("two", domain="mobility", columns={
    "at": ds.Timestamp("2027-01-01", "2027-02-01"), "seen": ds.Timestamp("2027-01-01", "2027-02-01"),
})  # fmt: skip
WHO = ds.Schema("who", domain="administration", kind="attributes", columns={"ward": ds.Category(["a"])})


@pytest.mark.parametrize(("query", "given", "word"), [
    (COUNT.bound(rows=3), {}, "leave bound"),
    (COUNT.sum("km"), {}, "one count"),
    (ds.query(RIDES), {}, "one count"),
    (ds.query(RIDES).distinct(), {}, "one count"),
    (ds.query(RIDES).count(per="resident"), {}, "one count"),
    (COUNT.top(1), {}, "top"),
    (ds.query(RIDES).keys(ds.unknown("shop")).count(), {}, "public keys"),
    (COUNT, {"rows": 0}, "rows"), (COUNT, {"rows": True}, "rows"), (COUNT, {"rows": 65_536}, "rows"),
    (COUNT, {"every": "1min"}, "steps"), (COUNT, {"every": "0s"}, "length"), (COUNT, {"every": "soon"}, "duration"),
    (COUNT, {"steps": 0}, "steps"), (COUNT, {"steps": 40}, "declared range"),
    (COUNT, {"start": "2026-12-31"}, "declared range"), (COUNT, {"at": "ward"}, "no Timestamp"),
    (ds.query(TWO).count(), {}, "at="), (ds.query(WHO).count(), {}, "event table"), ("count", {}, "ds.query"),
])  # fmt: skip
def test_what_is_no_series_is_refused_with_what_to_write(query, given, word):
    with pytest.raises(InvalidQueryError, match=word):
        ds.series(query, **{"every": "1d", "rows": 5, **given})


@given(st.integers(1, 300), st.data())
def test_a_run_of_steps_is_made_of_few_nodes_that_closed_within_it(steps, data):
    made = ds.Series(COUNT, "at", 0, 1, steps, 1, 0)
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(first + 1, steps))
    nodes, at = made.nodes(first, last), first
    for level, end in nodes:
        assert level in made.closing(end)
        assert end == at + 2**level - 1
        at = end + 1
    assert at == last
    assert len(nodes) <= 2 * made.levels
    assert len(made.nodes(0, last)) == last.bit_count()


def test_every_step_lies_in_one_node_of_a_level_at_most():
    for steps in (1, 2, 3, 7, 8, 9, 31):
        made = ds.Series(COUNT, "at", 0, 1, steps, 1, 0)
        for step in range(steps):
            holding = [level for end in range(steps) for level in made.closing(end) if end - 2**level < step <= end]
            assert len(holding) == len(set(holding)) <= made.levels


def test_a_series_comes_back_from_its_document():
    made = ds.series(COUNT.where(ds.col("km") > 1), every="1d", rows=9, delay="1h")
    assert series_from_document(made.document(), {RIDES.digest: RIDES}) == made
    own = made.document()["series"]
    for wrong in ({**own, "steps": 10**6}, {**own, "rows": 1.5}, {**own, "at": 3}, {**own, "x": 1}, [], None):
        with pytest.raises(InvalidQueryError):
            series_from_document({**made.document(), "series": wrong}, {RIDES.digest: RIDES})


# --- following it


def test_the_whole_horizon_is_charged_once_and_each_step_is_answered_once(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=9)
    with found_city(tmp_path, clock) as city:
        enrol(city, range(4), lambda _: rides(), schema=RIDES, issued=BEGIN - 10)
        opened = city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert opened.outputs == ()
        assert opened.frame().height == 0
        assert city.remaining == city.budget - LOSS
        clock.now += 3 * DAY
        three = city.follow(made, loss=LOSS, purpose=PURPOSE)
        clock.now += 2 * DAY
        five = city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert [len(o) for o in five.outputs] == [1, 2, 1, 3, 1]
        assert all((a[0] == b[0]).all() for a, b in zip(three.outputs, five.outputs, strict=False))
        assert city.remaining == city.budget - LOSS
        assert city.releases() == []
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        again = city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert again.digest == five.digest
        assert [again.step_digest(i) for i in range(5)] == [five.step_digest(i) for i in range(5)]
        assert again.identifier == five.identifier
        assert city.follow(made, loss=Loss(10**6), purpose=PURPOSE).identifier != five.identifier


def test_what_a_series_is_not_given_for_or_cannot_pay_is_refused_at_no_cost(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=9)
    with found_city(tmp_path, clock) as city:
        with pytest.raises(ConsentError):
            city.follow(made, loss=LOSS, purpose="other")
        with pytest.raises(BudgetExceededError):
            city.follow(made, loss=ds.zcdp(rho=2), purpose=PURPOSE)
        with pytest.raises(InvalidQueryError, match="too small"):
            city.follow(made, loss=Loss(32), purpose=PURPOSE)
        with pytest.raises(InvalidQueryError, match="delta"):
            city.follow(made, loss=ds.zcdp(rho="0.1", delta=1e-9), purpose=PURPOSE)
        assert city.remaining == city.budget
        assert city.log.checkpoint().size == 0


def exact(city: ds.City, made: ds.Series, step: int) -> list[int]:
    request = kernel_series.Request(kernel_series.compile_series(made), LOSS, PURPOSE, city.trust, 0, series=made)
    stream = "accounts/series/" + request.key.hex()
    return kernel_series._counted(city._ledger, stream, step)[0].tolist()


def test_rows_that_come_after_their_step_do_not_count_and_no_resident_counts_above_the_lifetime_bound(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=3)
    with found_city(tmp_path, clock) as city:
        enrol(city, ["ann"], lambda _: rides(8), schema=RIDES, issued=BEGIN - 10)
        clock.now += 2 * DAY
        city.follow(made, loss=LOSS, purpose=PURPOSE)
        enrol(city, ["late"], lambda _: rides(8), schema=RIDES, issued=BEGIN - 10)
        clock.now += 6 * DAY
        city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert [exact(city, made, s)[0] for s in range(8)] == [1, 2, 4, 5, 6, 6, 6, 6]


def test_a_consent_for_just_the_loss_of_the_series_lasts_for_all_of_it(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=8)
    with found_city(tmp_path, clock) as city:
        enrol(city, ["ann"], lambda _: rides(8), schema=RIDES, issued=BEGIN - 10, loss=LOSS)
        clock.now += 9 * DAY
        city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert exact(city, made, 8) == [8, 0]
        (partition,) = city._registry.refresh()
        spent = int(city._ledger.spent(partition.name, 1)[0, 0])
        assert LOSS.nano - 2 * made.steps <= spent <= LOSS.nano


def test_sums_are_clipped_and_shown_in_their_unit(tmp_path, clock):
    made = ds.series(ds.query(RIDES).sum("km", low=0, high=2), every="1d", rows=4)
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=10**6)) as city:
        enrol(city, range(3), lambda _: rides(8), schema=RIDES, issued=BEGIN - 10, loss=ds.zcdp(rho=10**6))
        clock.now += 8 * DAY
        frame = city.follow(made, loss=ds.zcdp(rho=10**5), purpose=PURPOSE).frame()
        assert frame["km_sum"].to_list() == pytest.approx([6, 12, 18, 24, 24, 24, 24, 24], abs=0.5)
        assert frame["begin"][1] == dt.datetime(2027, 1, 2, tzinfo=dt.UTC)


def test_a_frame_tells_totals_so_far_or_of_the_last_steps(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=9)
    with found_city(tmp_path, clock) as city:
        clock.now += 7 * DAY
        found = city.follow(made, loss=LOSS, purpose=PURPOSE)
        assert city.follow(made, loss=LOSS, purpose=PURPOSE).frame().equals(found.frame())
        whole, week = found.frame(), found.frame(last=2)
        assert whole.columns == ["step", "begin", "end", "ward", "count", "count_low", "count_high"]
        assert whole["ward"].to_list() == ["a", "b"] * 7
        of = {s: found.total(0, s + 1) for s in range(7)}
        assert whole["count"].to_list() == [int(v) for s in range(7) for v in of[s]]
        assert (found.total(4, 6) == found.outputs[5][1]).all()
        assert week.filter(week["step"] == 5)["count"].to_list() == found.outputs[5][1].tolist()
        widths = (whole["count_high"] - whole["count"]).to_list()[::2]
        half = found.noise.half_width(0.95)
        assert [widths[i] for i in (0, 1, 3)] == [half] * 3
        three = int(np.ceil(sum_half_width([found.noise], [3.0], [1.0], 0.025)))
        assert widths[6] == three > half
        for wrong in (0, -1, True, 1.0):
            with pytest.raises(InvalidQueryError, match="last"):
                found.frame(last=wrong)
        for first, last in ((0, 8), (3, 3), (-1, 2)):
            with pytest.raises(InvalidQueryError, match="steps"):
                found.total(first, last)


def test_preview_tells_the_noise_and_loss_for_is_its_inverse(city):
    made = ds.series(COUNT, every="1d", rows=9)
    previewed = city.preview(made, loss=LOSS)
    sigma = 9 * np.sqrt(6) / np.sqrt(2 * 0.01)
    assert previewed.frame["statistic"].to_list() == ["count", "count_step"]
    assert previewed.frame["sigma"].to_list() == pytest.approx([sigma * np.sqrt(5), sigma], rel=1e-5)
    needed = city.loss_for(made, within={"count": 500})
    assert city.preview(made, loss=needed).frame["margin"][0] <= 500
    assert city.preview(made, loss=Loss(needed.nano - 10**5)).frame["margin"][0] > 500
    assert city.remaining == city.budget


# --- the log and the receipts


def test_the_log_holds_the_opening_with_the_whole_loss_and_a_leaf_a_step(tmp_path, clock):
    made = ds.series(COUNT, every="1d", rows=9)
    with found_city(tmp_path, clock) as city:
        clock.now += 2 * DAY
        found = city.follow(made, loss=LOSS, purpose=PURPOSE)
        size = city.log.checkpoint().size
        leaves = [decode_leaf(x) for x in city.log.leaves(0, size)]
        opening, *steps = [x for x in leaves if isinstance(x, ReleaseLeaf | StepLeaf)]
        assert isinstance(opening, ReleaseLeaf)
        assert opening.standing
        assert (opening.loss, opening.result_digest) == (LOSS, found.digest)
        assert series_from_document(opening.document(), {RIDES.digest: RIDES}) == made
        assert opening.tables == (("rides", RIDES.digest, ("at", "ward")),)
        assert [s.step for s in steps] == [0, 1]
        assert [s.result_digest for s in steps] == [found.step_digest(0), found.step_digest(1)]
        assert {s.release_id for s in steps} == {found.identifier}
        with pytest.raises(ProofError):
            decode_leaf(encode_leaf(steps[0])[:-1] + b"")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_resident_who_consents_before_or_after_the_opening_has_a_receipt(tmp_path, clock, when):
    made = ds.series(COUNT, every="1d", rows=9)
    with (
        found_city(tmp_path, clock) as city,
        ds.Resident.create(tmp_path / "r", device_key=bytes(32), clock=clock) as resident,
    ):
        if when == "after":
            city.follow(made, loss=LOSS, purpose=PURPOSE)
        clock.now += 10
        resident.put(RIDES, rides())
        consent = resident.grant(city.id, RIDES, purpose=PURPOSE, loss=LOSS, until="2028-01-01")
        city.admit(consent, resident.contribute(consent))
        city.follow(made, loss=LOSS, purpose=PURPOSE)
        (receipt,) = resident.receipts(city.log)
        receipt.verify(city.log.checkpoint())
        assert receipt.loss == LOSS


def test_a_consent_that_was_over_before_the_opening_has_no_receipt(tmp_path, clock):
    with (
        found_city(tmp_path, clock) as city,
        ds.Resident.create(tmp_path / "r", device_key=bytes(32), clock=clock) as resident,
    ):
        resident.put(RIDES, rides())
        consent = resident.grant(city.id, RIDES, purpose=PURPOSE, loss=LOSS, until="2027-01-02")
        city.admit(consent, resident.contribute(consent))
        clock.now += 5 * DAY
        city.follow(ds.series(COUNT, every="1d", rows=9), loss=LOSS, purpose=PURPOSE)
        assert resident.receipts(city.log) == []


# --- an allowance a period


def test_an_allowance_holds_in_each_period_and_the_budget_over_all(tmp_path, clock):
    query = ds.query(RIDES).keys("ward").bound(rows=3, keys=1).count()
    with found_city(
        tmp_path, clock, budget=ds.zcdp(rho="0.05"), allowance=ds.zcdp(rho="0.02"), period=30 * DAY
    ) as city:

        def ask(rho: str) -> None:
            city.release(query, loss=ds.zcdp(rho=rho), purpose=PURPOSE)

        assert city.allowance == ds.zcdp(rho="0.02")
        ask("0.015")
        assert city.allowance == ds.zcdp(rho="0.005")
        with pytest.raises(BudgetExceededError, match="allowance"):
            ask("0.006")
        with pytest.raises(BudgetExceededError, match="allowance"):
            city.follow(ds.series(COUNT, every="1d", rows=3), loss=ds.zcdp(rho="0.006"), purpose=PURPOSE)
        ask("0.005")
        clock.now += 30 * DAY
        assert city.allowance == ds.zcdp(rho="0.02"), "what the last period left does not add up"
        ask("0.02")
        clock.now += 30 * DAY
        assert city.allowance == city.remaining == ds.zcdp(rho="0.01"), "the budget is the end of it"
        with pytest.raises(BudgetExceededError, match="budget"):
            ask("0.011")
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        assert city.allowance == ds.zcdp(rho="0.01")
    with pytest.raises(StoreError, match="allowance"):
        ds.City.open(tmp_path / "lake.city", clock=clock, allowance=ds.zcdp(rho="0.03"))


@pytest.mark.parametrize("allowance", [ds.zcdp(rho=2), ds.pure(epsilon="0.1"), 0.5])
def test_an_allowance_that_is_no_part_of_the_budget_is_refused(tmp_path, clock, allowance):
    with pytest.raises(InvalidQueryError):
        found_city(tmp_path, clock, allowance=allowance)
