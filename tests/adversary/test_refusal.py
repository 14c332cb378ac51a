"""Claim: a service learns no more of whether somebody consented than the noise of paid answers allows (central trust).

The service calls everything that it can, in the same way in worlds that differ in one resident alone: who never
consented, did, revoked, is spent, has expired. Three parts, since they are bounded by different things:

- With noise taken as infinite (an answer's numbers are drawn without the data, by one public seed for all worlds) what
  it sees must be equal, but for hashes of salted or signed bytes and the numbers of status lists, which are random in
  each world alike.
- The numbers: rho-zCDP allows a total variation of sqrt(rho / 2) (Pinsker), so it is right at most so much over a half.
- Sizes of what is published in batches: 1/19 for each admission or revocation (tests/unit/test_padding.py).

What time an answer takes is in `benches kernel`: `refused_ratio` and `spent_ratio`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.authority import lists
from datasov.authority.registry import partition_name
from datasov.crypto import padding
from datasov.errors import ConsentError, DatasovError, StoreError
from datasov.kernel import monitor
from datasov.kernel import series as kernel_series
from datasov.kernel.ledger import Ledger
from datasov.model.plan import Noised
from datasov.tlog import leaves
from datasov.tlog.leaves import BatchLeaf, NoticeLeaf, ReleaseLeaf, StepLeaf, decode_leaf
from datasov.wire import cbor
from tests.helpers import NOW, PEOPLE, PURPOSE, Clock, consent_for, contribution, enrol, revocation, values
from tests.statistical.significance import Share

SHARE = Share("refusal")
DAY, HOUR = 86_400, 3_600
ALONE, NOBODY = "only one", "nobody"
RIDES = ds.Schema("rides", domain="mobility", keys=[("ward",)], columns={
    "ward": ds.Category(["a", "b"]), "km": ds.Integer(0, 50), "shop": ds.Integer(0, 10**6),
    "at": ds.Timestamp("2027-01-14", "2027-01-20", zone="UTC"),
})  # fmt: skip
STRANGE = ds.Schema("strange", domain="energy", columns={"x": ds.Boolean()}, keys=[("x",)])
BASE = ds.query(RIDES).bound(rows=3, keys=2)
SMALL = ds.zcdp(rho="0.001")
OTHERS = 9
DELTA = ds.zcdp(rho="0.01", delta=1e-6)


def rides(seed: int) -> list[dict[str, object]]:
    return [
        {"ward": "ab"[(seed + i) % 2], "km": (seed * 7 + i) % 51, "shop": seed % 5, "at": f"2027-01-1{5 + i}T12:00"}
        for i in range(3)
    ]


class Target:
    """What the one resident in whom the worlds differ does: `day` counts from the first."""

    def __init__(self, kind: str) -> None:
        self.kind, self.consents = kind, list[ds.Consent]()

    def act(self, city: ds.City, day: int) -> None:
        if self.kind == "out":
            return
        if day == 1:
            for purpose in (PURPOSE, ALONE):
                loss = {"spent": ds.Loss(1), "spent later": SMALL}.get(self.kind, ds.zcdp(rho=1, delta=1e-5))
                until = NOW + (2 * DAY if self.kind == "expired" else 10**8)
                consent = consent_for(
                    city, RIDES, "target", purpose=purpose, loss=loss, expires=until, join=[PEOPLE], issued=NOW - 9
                )
                self.consents.append(consent)
                if self.kind == "barred":
                    city.revoke(revocation(consent, "target"))
                self.send(city, consent, 1)
        if day == 2 and self.kind == "again":
            self.send(city, self.consents[0], 2)
        if day == 3 and self.kind in ("revoked", "renewed"):
            for consent in self.consents:
                city.revoke(revocation(consent, "target"))
        if day == 4 and self.kind == "renewed":
            consent = consent_for(city, RIDES, "target", join=[PEOPLE], issued=NOW, loss=ds.zcdp(rho=1))
            self.send(city, consent, 3)

    def send(self, city: ds.City, consent: ds.Consent, sequence: int) -> None:
        rows = [] if self.kind == "empty" else rides(77)
        sealed = contribution(city, consent, "target", sequence, RIDES, rows, {PEOPLE: [{"age": 99, "ward": None}]})
        try:
            city.admit(consent, sealed)
        except ConsentError:
            assert self.kind == "barred"


KINDS = ["in", "revoked", "spent later"]
MORE = ["renewed", "spent", "expired", "barred", "empty", "again"]


class Service:
    """Calls everything that a service can call, and writes down what it sees."""

    def __init__(self, city: ds.City) -> None:
        self.city, self.seen = city, list[object]()

    def call(self, what: Callable[[], object]) -> None:
        try:
            self.seen.append(plain(what()))
        except DatasovError as refused:
            self.seen.append((type(refused).__name__, str(refused)))

    def everything(self, round_: int) -> None:
        city = self.city
        counts = BASE.keys("ward").count().sum("km")
        series = ds.series(ds.query(RIDES).keys("ward").count(), every="1d", rows=3, at="at")
        unknown = BASE.keys(ds.unknown("shop")).distinct()
        text = "SELECT ward, COUNT(*) FROM rides GROUP BY ward"
        asked = (
            (counts, SMALL), (counts.where(ds.col("km") > round_), SMALL), (BASE.count(), ds.pure(epsilon="0.01")),
            (BASE.coverage().mean("km").median("km"), SMALL), (unknown, DELTA),
            (BASE.keys("ward").count().top(1), SMALL), (BASE.join(PEOPLE).keys("people.ward").distinct(), SMALL),
            (ds.sql(text, [RIDES], rows=3, keys=2), SMALL), (BASE.count(), ds.zcdp(rho=10_000)),
            (ds.query(STRANGE).keys("x").bound(rows=1, keys=1).count(), SMALL),
        )  # fmt: skip
        for purpose in (PURPOSE, ALONE, NOBODY, "not declared"):
            for query, loss in asked if purpose == PURPOSE else asked[round_ % 2 :: 3]:
                self.call(lambda q=query, at=loss: city.preview(q, loss=at))
                self.call(lambda q=query, at=loss, p=purpose: city.release(q, loss=at, purpose=p))
                self.call(lambda q=query, at=loss, p=purpose: city.release(q, loss=at, purpose=p, as_of=city.epoch - 1))
            self.call(lambda p=purpose: city.suggest_bounds(counts, loss=SMALL, purpose=p))
            self.call(lambda p=purpose: city.follow(series, loss=SMALL, purpose=p))
            self.call(lambda p=purpose: city.purpose(p))
        self.call(lambda: city.loss_for(counts, within=100))
        self.call(
            lambda: (city.remaining, city.allowance, city.budget, city.epoch, city.purposes, city.trust, repr(city))
        )
        self.call(lambda: city.releases())
        self.call(lambda: [decode_leaf(leaf) for leaf in city.log.leaves()])
        self.call(lambda: [len(leaf) for leaf in city.log.leaves() if not varies(leaf)])
        self.call(lambda: (city.log.size, len(city.log.checkpoint().note), city.log.origin))
        self.call(lambda: [len(city.log.inclusion(i, city.log.size)) for i in range(city.log.size)])
        self.call(lambda: len(city.log.consistency(1, city.log.size)))
        self.call(lambda: bool(city.status()))


def varies(leaf: bytes) -> bool:
    return isinstance(decode_leaf(leaf), NoticeLeaf)


def plain(value: Any) -> object:
    """What was seen, in values that compare; opaque bytes that are random in each world alike stand as their length."""
    if isinstance(value, BatchLeaf):
        return value.kind, value.first_tick, value.last_tick, len(value.hashes)
    if isinstance(value, NoticeLeaf):
        return value.subject, value.time, len(cbor.decode(value.body)[4]) if value.subject == "erasure" else value.body
    if isinstance(value, ReleaseLeaf):
        hidden = {"release_id": b"", "result_digest": b"", "status": b"", "loss": str(value.loss)}
        return plain(dataclasses.astuple(dataclasses.replace(value, **hidden)))
    if isinstance(value, StepLeaf):
        return value.step, value.time, len(value.result_digest), len(value.status)
    if isinstance(value, ds.Release):
        told = {k: v for k, v in value.document().items() if k != "id"}
        cells = None if value.cells is None else value.cells.tolist()
        return "release", repr(told), [v.tolist() for v in value.values], cells
    if isinstance(value, ds.SeriesRelease):
        return "series", str(value.frame()), repr(value.noise), repr(value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return repr(value)


def coupled(patch: pytest.MonkeyPatch) -> None:
    """The public randomness of all worlds: numbers of answers and of decoys, each call's by its place in the order."""
    calls = {"draw": 0, "decoys": 0}

    def seeded(sizes: list[int]) -> tuple[np.ndarray, ...]:
        calls["draw"] += 1
        rng = np.random.default_rng(calls["draw"])
        return tuple(rng.integers(-1000, 1000, size) for size in sizes)

    def draw(total, plan, reservation):
        reservation.use()
        if plan.unknown:
            return Noised(reservation.identifier, seeded([3] * len(plan.statistics)), np.arange(3))
        if plan.query.highest is not None:
            return Noised(reservation.identifier, (np.arange(plan.query.highest),))
        return Noised(reservation.identifier, seeded([len(v) for v in total._values]))

    def draw_nodes(nodes, plan, reservation):
        reservation.use()
        return Noised(reservation.identifier, seeded([len(v) for v in nodes]))

    def decoys() -> int:
        calls["decoys"] += 1
        return int(np.random.default_rng(calls["decoys"]).integers(100, 200))

    patch.setattr(monitor, "draw", draw)
    patch.setattr(kernel_series, "draw_nodes", draw_nodes)
    patch.setattr(padding, "decoys", decoys)
    patch.setattr(lists, "padded", lambda real: 16 * (1 + real // 16))  # 256 lists of 2^20 entries take seconds
    patch.setattr("os.fsync", lambda _: None)


def life(folder: Path, kind: str, plant: Callable[[pytest.MonkeyPatch], None] | None = None) -> list[object]:
    """What a service sees over seven days of a city in one world."""
    folder.mkdir()
    clock, target = Clock(), Target(kind)
    with pytest.MonkeyPatch.context() as patch:
        coupled(patch)
        if plant is not None:
            plant(patch)
        with ds.City.open(
            folder / "lake.city", budget=ds.zcdp(rho=900, delta="0.01"), purposes=[PURPOSE, ALONE, NOBODY], clock=clock,
            allowance=ds.zcdp(rho=200, delta="0.01"), operator_key=bytes(32), erase_within=4 * DAY,
        ) as city:  # fmt: skip
            service = Service(city)
            enrol(
                city, range(OTHERS), rides, schema=RIDES, join=[PEOPLE], loss=ds.zcdp(rho=1, delta=1e-5),
                profiles=lambda n: {PEOPLE: [{"age": n, "ward": "a"}]},
            )  # fmt: skip
            for day in range(7):
                clock.now = NOW + day * DAY
                target.act(city, day)
                if day in (1, 3, 5):
                    clock.now += 2 * HOUR
                    city.tick()
                if day in (0, 2, 5):
                    service.everything(day)
    return service.seen


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return life(tmp_path_factory.mktemp("out") / "w", "out")


@pytest.mark.parametrize("kind", [*KINDS, *(pytest.param(k, marks=pytest.mark.campaign) for k in MORE)])
def test_what_a_service_sees_does_not_depend_on_one_resident(tmp_path, without, kind):
    seen = life(tmp_path / "w", kind)
    assert len(seen) == len(without) > 200
    assert told(seen, without) == []


def told(seen: list[object], without: list[object]) -> list[int]:
    """The calls whose answers tell two worlds apart."""
    return [n for n, (one, other) in enumerate(zip(seen, without, strict=True)) if one != other]


# --- planted


def epochs_follow_admissions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ds.City, "epoch", property(lambda city: NOW // DAY + city._store.length("commitments")))


def an_empty_purpose_is_an_error(patch: pytest.MonkeyPatch) -> None:
    real = ds.City._authorise

    def authorise(city, request):
        real(city, request)
        if not len(city._registry.partition(partition_name(request.plan.query.schema, request.purpose))):
            raise ConsentError("nobody consented")

    patch.setattr(ds.City, "_authorise", authorise)


def the_spent_raise(patch: pytest.MonkeyPatch) -> None:
    """A resident whose account does not hold the price shows in the answer, as a public fault would."""
    real = Ledger.charge

    def charge(ledger, *given, **named):
        pays = real(ledger, *given, **named)
        if not pays.all():
            raise StoreError("a resident is spent")
        return pays

    patch.setattr(Ledger, "charge", charge)


PLANTED = [(epochs_follow_admissions, "in"), (an_empty_purpose_is_an_error, "in"), (the_spent_raise, "spent later")]


@pytest.mark.parametrize(("plant", "kind"), PLANTED)
def test_a_fault_that_tells_of_a_resident_is_noticed(tmp_path, plant, kind):
    assert told(life(tmp_path / "a", kind, plant), life(tmp_path / "b", "out", plant))


# --- the numbers


ROUNDS, RHO = 100, 0.002


def guessed(folder: Path) -> int:
    """How often a service is right of 2 * ROUNDS times that knows all rows of everybody, and asks what tells most."""
    found, asked = 0, ds.query(RIDES).bound(rows=3, keys=1)
    for name in ("out", "in"):
        (folder / name).mkdir()
        with ds.City.open(
            folder / name / "lake.city", budget=ds.zcdp(rho=9), purposes=[PURPOSE], clock=Clock()
        ) as city:
            enrol(city, range(OTHERS), rides, schema=RIDES, loss=ds.zcdp(rho=9))
            if name == "in":
                enrol(city, ["target"], lambda _: [{**rides(1)[0], "km": 50}] * 3, schema=RIDES, loss=ds.zcdp(rho=9))
            for round_ in range(ROUNDS):
                query = asked.where(ds.col("km") > -1 - round_).count()
                release = city.release(query, loss=ds.zcdp(rho=str(RHO)), purpose=PURPOSE)
                found += (int(release.values[0][0]) >= 3 * OTHERS + 1.5) == (name == "in")
    return found


def better_than_allowed(right: int) -> float:
    """p-value of being right so often where a rho-zCDP answer allows 1/2 + sqrt(rho / 2) / 2 in each round."""
    allowed = 0.5 + math.sqrt(RHO / 2) / 2
    return float(stats.binom.sf(right - 1, 2 * ROUNDS, allowed))


@pytest.fixture
def unsynced(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


def test_the_numbers_tell_no_more_than_their_loss_allows(tmp_path, unsynced):
    assert better_than_allowed(guessed(tmp_path)) > SHARE.take()


def test_a_fiftieth_of_the_noise_is_noticed(tmp_path, unsynced, monkeypatch):
    """Planted: answers whose noise is that of 2,500 times the loss."""
    real = monitor.draw

    def draw(total, plan, reservation):
        noised = real(total, plan, reservation)
        exact = values(total)[0]
        return Noised(noised.identifier, (exact + (noised.values[0] - exact) // 50,))

    monkeypatch.setattr(monitor, "draw", draw)
    assert better_than_allowed(guessed(tmp_path)) <= SHARE.take()


# --- the sizes of what is published on ticks


TICKS = 2_000


def told_by_sizes(published: Callable[[int], int]) -> float:
    """p-value of a service that knows of 56 others and guesses by size whether there was one more, as 1/19 allows.

    Where there are 56, the drawn number that crosses the multiple of 256 for one more is the likeliest one.
    """
    right = 0
    for _ in range(TICKS):
        right += published(56) <= 256
        right += published(57) > 256
    return float(stats.binom.sf(right - 1, 2 * TICKS, 0.5 + 1 / 38))


def batch(admitted: int) -> int:
    return len(leaves.pad_batch(i.to_bytes(32, "big") for i in range(admitted)))


def test_one_admission_more_hardly_shows_at_the_worst_number_of_others():
    assert told_by_sizes(batch) > SHARE.take()


def test_rounding_up_alone_is_noticed(monkeypatch):
    """Planted: no drawn decoys, as it was before: who waits for the right number of others is always right."""
    monkeypatch.setattr(padding, "decoys", lambda: 200)
    assert told_by_sizes(batch) <= SHARE.take()


def test_the_sizes_of_a_citys_log_and_lists_are_drawn(tmp_path, clock, monkeypatch, unsynced):
    """What a tick publishes has these sizes: batches of both kinds, marks and new lists, erased contributions."""
    numbers = list[int]()

    def recorded(count: int) -> int:
        numbers.append(count)
        return 256 * (1 + count // 256)

    for module in (lists, leaves):
        monkeypatch.setattr(module, "padded", recorded)
    with ds.City.open(tmp_path / "lake.city", budget=ds.zcdp(rho=9), purposes=[PURPOSE], clock=clock) as city:
        enrol(city, range(3), rides, schema=RIDES)
        (gone,) = enrol(city, ["gone"], lambda _: rides(1), schema=RIDES)
        city.revoke(revocation(gone, "gone"))
        clock.now += 2 * HOUR
        city.tick()
        assert numbers[:2] == [4, 1], "admissions and revocations"
        assert numbers[2] == 1, "marks of the status lists"
        assert len(numbers) == 4, "lists that are new"
        clock.now += 40 * DAY
        city.tick()
        assert numbers[-1] == 1, "contributions that were erased"
        assert {len(leaf.hashes) for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, BatchLeaf)} == {
            256
        }
