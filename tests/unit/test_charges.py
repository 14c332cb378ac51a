"""What a question costs each resident: their own bounded vector, and nothing for who has no matching rows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import datasov as ds
from datasov.errors import DecryptionError, InvalidQueryError
from datasov.kernel.contribute import contribute, shares
from datasov.kernel.plan import compile
from datasov.model.charges import SHARES
from datasov.model.plan import Request
from datasov.model.privacy import Loss
from tests.helpers import COUNT, PURPOSE, TRIPS, Harness, enrol, found_city

SMALL = ds.zcdp(rho="0.001")


def spent(city: ds.City) -> list[int]:
    (partition,) = city._registry.refresh()
    return [int(n) for n in city._ledger.spent(partition.name, len(partition))[0]]


def north(n: int) -> list[dict[str, object]]:
    return [{"district": "N", "km": 10}] * n


def test_each_pays_the_square_of_their_own_vector(city):
    enrol(city, [0, 1, 2, 5, 9], north)
    city.release(COUNT, loss=SMALL, purpose=PURPOSE)
    for rows, paid in zip([0, 1, 2, 5, 5], spent(city), strict=True):
        own = Fraction(rows**2, 50) * SMALL.nano
        assert own <= paid <= own + SMALL.nano // 65_535 + 3
    assert city.remaining.nano == city.budget.nano - SMALL.nano, "the city pays the worst case, whoever takes part"


def test_who_has_no_matching_rows_pays_nothing(city):
    enrol(city, ["north"], lambda _: north(3))
    enrol(city, ["south"], lambda _: [{"district": "S", "km": 50}] * 3)
    city.release(COUNT.where(ds.col("km") > 20), loss=SMALL, purpose=PURPOSE)
    paid = spent(city)
    assert paid[0] == 0 < paid[1]


def test_who_cannot_pay_one_question_still_takes_part_in_a_cheaper_one(city, monkeypatch):
    enrol(city, ["ann"], lambda _: north(5), loss=Loss(SMALL.nano // 10))
    city.release(COUNT, loss=SMALL, purpose=PURPOSE)
    assert spent(city) == [0], "half the loss does not fit under a tenth of it"
    city.release(COUNT, loss=Loss(SMALL.nano // 10), purpose=PURPOSE)
    assert 0 < spent(city)[0] <= SMALL.nano // 10


@pytest.mark.parametrize("query", [
    COUNT, COUNT.sum("km").distinct(), COUNT.variance("km"), COUNT.where(ds.col("km") < 40).mean("km"),
    ds.query(TRIPS).keys(ds.bin("km", [20])).bound(rows=3, keys=2).count().distinct(),
    ds.query(TRIPS).bound(rows=4).sum("km"),
])  # fmt: skip
def test_prices_are_those_of_the_vectors_and_never_above_the_loss(tmp_path, query):
    harness, rng = Harness(tmp_path, per_shard=2), np.random.default_rng(5)
    people = {
        n: [{"district": "NESW"[rng.integers(4)], "km": int(rng.integers(51))} for _ in range(int(rng.integers(40)))]
        for n in range(7)
    }
    harness.admit(TRIPS, people, {})
    plan, loss = compile(query), ds.zcdp(rho="0.37")
    snapshot = harness.pool.snapshot(Request(plan, loss, PURPOSE, ds.central(), 0))
    for shard in snapshot.shards:
        part = contribute(plan, shard, np.ones(shard.residents, dtype=np.bool_))
        for v in part.vectors:
            assert len({*zip(v.resident.tolist(), v.entry.tolist(), strict=True)}) == len(v.entry), "a pair twice"
        for place, share in enumerate(shares(plan, part, loss).tolist()):
            own = sum(
                Fraction(int(v)) ** 2 / (2 * Fraction(scale) ** 2)
                for vector, scale in zip(part.vectors, plan.scales(loss), strict=True)
                for v in vector.value[vector.resident == place]
            )
            least = own * 10**9 / loss.nano * SHARES
            assert least <= share <= min(least + 2, SHARES)


def test_a_part_is_redacted(tmp_path):
    harness = Harness(tmp_path)
    harness.admit(TRIPS, {"a": north(3)}, {})
    (shard,) = harness.pool.snapshot(Request(compile(COUNT), SMALL, PURPOSE, ds.central(), 0)).shards
    assert repr(contribute(compile(COUNT), shard, np.ones(1, dtype=np.bool_))) == "Part(redacted)"


# --- the inverse of a preview


@pytest.mark.parametrize("within", [50, {"km_mean": 0.5}, {"count": 30, "km_sum": 10_000}])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_loss_for_a_margin_is_the_least(city, within, confidence):
    query = COUNT.sum("km").mean("km")
    loss = city.loss_for(query, within=within, confidence=confidence)

    def fits(loss: Loss) -> bool:
        frame = city.preview(query, loss=loss, confidence=confidence).frame
        limits = within if isinstance(within, dict) else dict.fromkeys(frame["statistic"], within)
        return all(row["margin"] <= limits.get(row["statistic"], row["margin"]) for row in frame.to_dicts())

    assert fits(loss)
    assert not fits(Loss(loss.nano - 3)), "a smaller loss would do"
    assert city.remaining == city.budget


@pytest.mark.parametrize("within", [0, -1, {}, {"none": 3}, {"count": float("nan")}])
def test_margins_that_no_loss_gives_are_refused(city, within):
    with pytest.raises(InvalidQueryError):
        city.loss_for(COUNT.mean("km"), within=within)


def test_what_a_question_cost_whom_is_sealed_at_rest(tmp_path, clock):
    """A charge tells of rows: without the operator's key it can neither be read, nor told by its length, nor moved."""
    stored = {}
    for district in "NS":
        (tmp_path / district).mkdir()
        with found_city(tmp_path / district, clock) as city:
            enrol(city, range(20), lambda n, d=district: [{"district": d if n % 2 else "E", "km": 1}])
            for rows in (1, 2):
                query = ds.query(TRIPS).where(ds.col("district") == "N").bound(rows=rows).count()
                city.release(query, loss=SMALL, purpose=PURPOSE)
            assert sum(spent(city)) > 0 or district == "S"
            (partition,) = city._registry.refresh()
            stored[district] = city._store.read("accounts/" + partition.name)
            opened = city._ledger.store.read("accounts/" + partition.name)
            for raw, plain in zip(stored[district], opened, strict=True):
                assert plain[:24] not in raw
                assert plain[24:] not in raw
            city._ledger._accounts.clear()
            city._store._db.execute("UPDATE entries SET body = ? WHERE stream = ? AND seq = 0", (
                stored[district][1], "accounts/" + partition.name,
            ))  # fmt: skip
            with pytest.raises(DecryptionError):
                spent(city)
    assert {len(body) for bodies in stored.values() for body in bodies} == {len(stored["N"][0])}


def test_nobody_but_its_owner_may_look_into_a_citys_folder(tmp_path, city):
    assert (tmp_path / "lake.city").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "lake.city.key").stat().st_mode & 0o777 == 0o600
