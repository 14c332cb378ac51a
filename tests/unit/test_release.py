"""Releases and previews: frames, units, intervals, and their bytes."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import polars as pl
import pytest

import datasov as ds
from datasov.errors import InvalidQueryError, VerificationError
from datasov.kernel.plan import compile
from datasov.model.preview import preview
from datasov.model.release import Release
from datasov.tlog.record import leaf_of, pack_release, unpack_release

S = ds.Schema("s", domain="energy", keys=["cat"], columns={
    "cat": ds.Category("ab", nullable=True), "flag": ds.Boolean(), "num": ds.Integer(0, 10),
    "dec": ds.Decimal(-5, 5, scale=2), "at": ds.Timestamp("2027-01-01", "2027-01-02T01:00"),
})  # fmt: skip
A = ds.Schema("a", domain="health", kind="attributes", columns={"x": ds.Category("pq")})
BASE = ds.query(S).bound(rows=2, keys=2)
LOSS = ds.zcdp(rho="0.5")


def released(query: ds.Query, *values: list[int]) -> Release:
    plan = compile(query)
    vectors = tuple(np.array(v, dtype=np.int64) for v in values)
    assert [len(v) for v in vectors] == [plan.cells] * len(plan.statistics)
    return Release(
        bytes(range(16)), "lake+x", query, "p", "", LOSS, ds.central(), "discrete Gaussian", 3, 5, plan.statistics,
        plan.parts, vectors, plan.scales(LOSS),
    )  # fmt: skip


def test_keys_stand_in_the_order_of_the_cells():
    frame = released(BASE.keys("cat", "flag").count(), list(range(6))).frame()
    assert frame.select("cat", "flag", "count").rows() == [
        ("a", False, 0), ("a", True, 1), ("b", False, 2), ("b", True, 3), (None, False, 4), (None, True, 5),
    ]  # fmt: skip
    joined = released(BASE.join(A).keys("a.x", ds.day("at")).count(), list(range(6))).frame()
    day = dt.date(2027, 1, 1), dt.date(2027, 1, 2)
    assert joined.select("a.x", "at_day").rows() == [(x, d) for x in ("p", "q", None) for d in day]
    assert released(BASE.keys(ds.hour("at")).count(), list(range(24))).frame()["at_hour"].to_list() == list(range(24))
    bins = released(BASE.keys(ds.bin("dec", [0])).count(), [1, 2]).frame()
    assert bins["dec_bin"].to_list() == ["[-5.00, 0.00)", "[0.00, 5.00]"]


def test_units_are_those_of_the_column():
    frame = released(BASE.sum("dec").sum("num"), [250], [7]).frame()
    assert frame["dec_sum"][0] == 2.5
    assert frame["num_sum"][0] == 7
    assert frame["num_sum"].dtype == pl.Int64
    release = released(BASE.sum("dec").sum("num"), [250], [7])
    assert release.scale("dec_sum") == pytest.approx(release.scales[0] / 100)
    assert release.scale("num_sum") == release.scales[1]
    with pytest.raises(InvalidQueryError):
        release.scale("none")
    spread = released(BASE.variance("dec").std("dec"), [9], [250], [90_000])
    for name in ("dec_variance", "dec_std"):
        assert spread.scale(name) == pytest.approx(spread.scales[2] / 10_000), "a sum of squares, in the unit squared"


@pytest.mark.parametrize(
    ("count", "total", "mean"), [(10, 20, 7), (10, 10**6, 10), (10, -(10**6), 0), (0, 7, 10), (-5, 3, 8)]
)
def test_means_stay_within_the_declared_range_and_their_interval(count, total, mean):
    frame = released(BASE.mean("num"), [count], [total]).frame()
    assert frame["num_mean"][0] == mean
    assert 0 <= frame["num_mean_low"][0] <= frame["num_mean"][0] <= frame["num_mean_high"][0] <= 10
    if count <= 0:
        assert frame.select("num_mean_low", "num_mean_high").rows() == [(0, 10)]


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 1.5, float("nan"), float("inf"), 1 - 1e-12])
def test_what_is_no_confidence_is_refused(confidence):
    release, plan = released(BASE.count(), [1]), compile(BASE.count())
    with pytest.raises(InvalidQueryError):
        release.frame(confidence=confidence)
    with pytest.raises(InvalidQueryError):
        preview(BASE.count(), plan.statistics, plan.parts, plan.scales(LOSS), 1, LOSS, confidence, ())


def test_wider_confidence_is_wider():
    release = released(BASE.count().mean("num").sum("dec"), [50], [10], [100])
    frames = [release.frame(confidence=c) for c in (0.5, 0.9, 0.99, 1 - 1e-9)]
    for name in ("count", "num_mean", "dec_sum"):
        widths = [f[name + "_high"][0] - f[name + "_low"][0] for f in frames]
        assert widths == sorted(widths)


EVERY = (
    BASE.join(A)
    .keys("cat", "a.x")
    .where(ds.col("dec") > decimal.Decimal("0.5"))
    .count()
    .sum("dec")
    .mean("num")
    .distinct()
)


def every() -> Release:
    rng = np.random.default_rng(1)
    plan = compile(EVERY)
    return released(EVERY, *(rng.integers(-(2**62), 2**62, plan.cells).tolist() for _ in plan.statistics))


def test_a_release_comes_back_from_its_bytes():
    release = every()
    again = unpack_release(pack_release(release))
    assert pack_release(again) == pack_release(release)
    assert (again.query, again.scales, again.statistics, again.parts) == (
        release.query, release.scales, release.statistics, release.parts,
    )  # fmt: skip
    assert again.digest == release.digest == leaf_of(release).result_digest
    assert leaf_of(again) == leaf_of(release)


def test_the_digest_covers_values_and_all_else():
    release = every()
    moved = unpack_release(pack_release(release).replace(release.values[0].tobytes(), release.values[1].tobytes()))
    assert moved.digest != release.digest
    text = pack_release(release)
    assert unpack_release(text.replace(b'"epoch":3', b'"epoch":4')).digest != release.digest


def test_damaged_bytes_are_refused_by_an_error_of_ours():
    good = pack_release(every())
    rng = np.random.default_rng(2)
    for at in rng.integers(0, len(good), 300):
        bad = good[:at] + bytes([good[at] ^ (1 << int(rng.integers(8)))]) + good[at + 1 :]
        try:
            unpack_release(bad)
        except (VerificationError, InvalidQueryError):
            continue
    for bad in (b"", b"\x80", good[:-1], good + b"\x00"):
        with pytest.raises(VerificationError):
            unpack_release(bad)


def test_a_release_leaf_names_tables_and_the_columns_that_were_read():
    leaf = leaf_of(every())
    assert leaf.tables == (("s", S.digest, ("cat", "dec", "num")), ("a", A.digest, ("x",)))
    assert leaf.query_digest == EVERY.digest
    assert leaf.loss == LOSS


def test_previews_say_what_releases_will():
    query = BASE.keys("cat").count().sum("dec").mean("num")
    plan = compile(query)
    shown = preview(query, plan.statistics, plan.parts, plan.scales(LOSS), plan.cells, LOSS, 0.95, ())
    release = released(query, *[[1000] * 3] * len(plan.statistics))
    frame = release.frame()
    for row in shown.frame.to_dicts():
        name, half = row["statistic"], row["margin"]
        width = (frame[name + "_high"][0] - frame[name + "_low"][0]) / 2
        assert half == pytest.approx(width, rel=1e-9) if name != "num_mean" else half >= width * 0.9
    assert "3 cells" in str(shown)
    assert "rho = 0.5" in str(shown)
    assert repr(release) == "<Release of count, dec_sum, num_mean from s, rho = 0.5, epoch 3>"
