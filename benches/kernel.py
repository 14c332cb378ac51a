"""One bounded, noised question against raw Polars over the same rows in the same process.

Count, sum and distinct residents over 1,000 public keys; every resident bounded to 8 keys and 16 rows a key; values
clipped. The raw side is `group_by(key).agg(len, sum)` over the same codes (u16, in memory, no strings).

- `ratio_to_raw_polars`: consents checked, the city's budget reserved durably, bounded, added, noised.
- `charged_ratio`: the whole release: each resident's own account charged durably too, output and leaf committed.
- `where_ratio`: as the first, with a `where` on another column and the bounds applied to the rows that pass it;
  `where_charged_ratio`: the whole release of that.
- `spent_ratio`: the whole release where the first thousandth of the residents is spent, against one where nobody is,
  in turns: what a spent neighbour shows in latency is how far this is from 1. `refused_ratio`: the same where they
  revoked, their rows not yet erased.
- `cold_ratio`: the sealed pool read from files (checked, decrypted, into frames), against the same rows with their
  ranks read from plain Parquet (zstd-1); `cold_data_ratio`: against Parquet of the data columns alone.
- `admission_s_per_10m`: seconds of indexing 10M contributed rows, signatures and decryption aside.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

import datasov as ds
from datasov.engine.local import threads
from datasov.kernel import monitor
from datasov.kernel.contribute import Exact, add, contribute, total
from datasov.kernel.ledger import Ledger
from datasov.kernel.noise import draw
from datasov.kernel.plan import compile
from datasov.model.document import canonical
from datasov.model.plan import Noised, Request
from datasov.model.shard import RESIDENT, Shard, Snapshot
from datasov.pool.pool import RESIDENTS_PER_SHARD, schema_order, shard_from_bytes, shard_to_bytes
from datasov.pool.ranks import ranked
from datasov.pool.sealed import fingerprint, open_shard, seal_shard
from datasov.store.sqlite import SQLiteStore

KEYS, ROWS_A_RESIDENT, RUNS = 1000, 50, 5
TRIPS = ds.Schema(
    "trips",
    domain="mobility",
    columns={
        "district": ds.Category([f"D{i:03}" for i in range(KEYS)]),
        "km": ds.Integer(0, 1000, unit="km"),
        "mode": ds.Category(["foot", "bicycle", "bus", "rail", "car"]),
    },
    keys=[("district",)],
)
QUERY = ds.query(TRIPS).keys("district").bound(rows=16, keys=8).count().sum("km", low=0, high=500).distinct()
LOSS = ds.zcdp(rho="0.02")


def shards(rows: int, seed: int = 1) -> tuple[list[Shard], float]:
    """A simulated pool of `rows` rows, 50 a resident, and the seconds that its indexing took."""
    rng, made, seconds = np.random.default_rng(seed), [], 0.0
    residents = max(1, rows // ROWS_A_RESIDENT)
    for first in range(0, residents, RESIDENTS_PER_SHARD):
        count = min(RESIDENTS_PER_SHARD, residents - first)
        n = count * ROWS_A_RESIDENT
        home = np.repeat(rng.integers(0, KEYS, count), ROWS_A_RESIDENT)
        away = rng.integers(0, KEYS, n)
        frame = pl.DataFrame(
            {
                "district": np.where(rng.random(n) < 0.5, home, away).astype(np.uint16),
                "km": rng.integers(0, 1001, n).astype(np.uint16),
                "mode": rng.integers(0, 5, n).astype(np.uint8),
                RESIDENT: np.repeat(np.arange(count, dtype=np.uint32), ROWS_A_RESIDENT),
            }
        )
        began = time.perf_counter()
        identities = np.arange(first, first + count, dtype=np.uint64)
        frame = ranked(frame, TRIPS, b"a rank secret of thirty-two byte", identities).rechunk()
        seconds += time.perf_counter() - began
        made.append(Shard(first, count, frame, None, schema_order(TRIPS)))
    return made, seconds


class _Pool:
    """The pool as a question sees it: its consents as columns and its shards in memory."""

    def __init__(self, held: list[Shard], residents: int) -> None:
        self._shards = held
        now = int(time.time())
        self._live = np.ones(residents, dtype=np.bool_)
        self._begins = np.full(residents, now - 1000, dtype=np.int64)
        self._ends = np.full(residents, now + 10**8, dtype=np.int64)
        self._caps = np.full((2, residents), 10**12, dtype=np.int64)

    def spend(self, share: float) -> None:
        """Leave the first of the residents without a cap."""
        self._caps[:, : max(1, int(share * self._caps.shape[1]))] = 0

    def refuse(self, share: float) -> None:
        """Leave the first of the residents without a consent, their rows where they were."""
        self._live[: max(1, int(share * len(self._live)))] = False

    def snapshot(self, request: Request) -> Snapshot:
        now = int(time.time()) + 0 * request.epoch
        eligible = self._live & (self._begins <= now) & (now < self._ends)
        return Snapshot("bench", {"registry/bench": 0}, eligible, self._caps, self._shards)


def _record(request: Request, noised: Noised) -> tuple[bytes, bytes]:
    return b"".join(v.tobytes() for v in noised.values), canonical(request.document())


def alternating(first: Callable[[], object], second: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Median seconds of each, over alternating runs, and the median of the ratios."""
    a: list[float] = []
    b: list[float] = []
    for run in range(runs + 1):
        for function, out in ((first, a), (second, b)):
            began = time.perf_counter()
            function()
            if run:
                out.append(time.perf_counter() - began)
    return statistics.median(a), statistics.median(b), statistics.median(x / y for x, y in zip(a, b, strict=True))


def cold(held: list[Shard], folder: Path) -> tuple[float, float]:
    """The ratios of reading the sealed pool to reading plain Parquet, with the ranks and without."""
    key, name = bytes(range(32)), "00" * 16
    sealed = [seal_shard(key, name, n, 1, shard_to_bytes(shard)) for n, shard in enumerate(held)]
    prints = [fingerprint(data) for data in sealed]
    for n, data in enumerate(sealed):
        (folder / f"{n}.shard").write_bytes(data)
    del sealed
    for n, shard in enumerate(held):
        shard.rows.write_parquet(folder / f"{n}.parquet", compression="zstd", compression_level=1)
        data_columns = shard.rows.select("district", "km", "mode", RESIDENT)
        data_columns.write_parquet(folder / f"{n}.data.parquet", compression="zstd", compression_level=1)

    def one(n: int) -> Shard:
        data = (folder / f"{n}.shard").read_bytes()
        if fingerprint(data) != prints[n]:
            raise AssertionError("the shard's file is not the one that was written")
        return shard_from_bytes(open_shard(key, name, n, 1, data), 0, "")

    def opened() -> None:
        list(threads()(one, range(len(held))))

    def plain() -> None:
        list(threads()(lambda n: pl.read_parquet(folder / f"{n}.parquet"), range(len(held))))

    def data_alone() -> None:
        list(threads()(lambda n: pl.read_parquet(folder / f"{n}.data.parquet"), range(len(held))))

    return alternating(opened, plain, RUNS)[2], alternating(opened, data_alone, RUNS)[2]


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The figures; `size` is "small" (1M rows) or "full" (10M), unless `rows` says otherwise."""
    rows = rows or (1_000_000 if size == "small" else 10_000_000)
    held, indexing = shards(rows)
    rows = sum(s.rows.height for s in held)
    pool_bytes = sum(s.rows.estimated_size() for s in held)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "bench.db", create=True)
        ledger = Ledger(store, ds.zcdp(rho=1000))
        pool, engine = _Pool(held, sum(s.residents for s in held)), threads()
        asked = 0

        def request(query: ds.Query) -> Request:
            nonlocal asked
            asked += 1
            return Request(compile(query), LOSS, "bench", ds.central(), asked)

        def released(query: ds.Query) -> None:
            monitor.release(
                request(query), authorise=lambda _: None, ledger=ledger, pool=pool, engine=engine, record=_record
            )

        def answered(query: ds.Query) -> None:
            """A release but for the charges of the residents' own accounts and the commit."""
            asking = request(query)
            plan, snapshot, reservation = asking.plan, pool.snapshot(asking), ledger.reserve(asking.loss)

            def part(shard: Shard) -> Exact:
                eligible = snapshot.eligible[shard.first : shard.first + shard.residents]
                return total(plan, contribute(plan, shard, eligible), eligible)

            draw(add(engine(part, snapshot.shards), plan), plan, reservation)

        raw_frame = pl.concat([s.rows.select("district", "km") for s in held]).rechunk()

        def raw() -> None:
            raw_frame.lazy().group_by("district").agg(pl.len(), pl.col("km").cast(pl.Int64).sum()).collect()

        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, raw_seconds, ratio = alternating(lambda: answered(QUERY), raw, RUNS)
        _, _, charged_ratio = alternating(lambda: released(QUERY), raw, RUNS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        where = QUERY.where(ds.col("mode").is_in(["bus", "rail"]))
        _, _, where_ratio = alternating(lambda: answered(where), raw, RUNS)
        _, _, where_charged_ratio = alternating(lambda: released(where), raw, RUNS)
        nearly = _Pool(held, sum(s.residents for s in held))
        nearly.spend(0.001)

        def released_where_some_are_spent() -> None:
            monitor.release(
                request(QUERY), authorise=lambda _: None, ledger=ledger, pool=nearly, engine=engine, record=_record
            )

        _, _, spent_ratio = alternating(released_where_some_are_spent, lambda: released(QUERY), 2 * RUNS)
        refused = _Pool(held, sum(s.residents for s in held))
        refused.refuse(0.001)

        def released_where_some_refuse() -> None:
            monitor.release(
                request(QUERY), authorise=lambda _: None, ledger=ledger, pool=refused, engine=engine, record=_record
            )

        _, _, refused_ratio = alternating(released_where_some_refuse, lambda: released(QUERY), 2 * RUNS)
        store.close()
        cold_ratio, cold_data_ratio = cold(held, Path(folder))
    return {
        "rows": rows,
        "residents": sum(s.residents for s in held),
        "runs": RUNS,
        "seconds": round(seconds, 4),
        "raw_polars_seconds": round(raw_seconds, 4),
        "ratio_to_raw_polars": round(ratio, 3),
        "charged_ratio": round(charged_ratio, 3),
        "where_ratio": round(where_ratio, 3),
        "where_charged_ratio": round(where_charged_ratio, 3),
        "spent_ratio": round(spent_ratio, 3),
        "refused_ratio": round(refused_ratio, 3),
        "cold_ratio": round(cold_ratio, 3),
        "cold_data_ratio": round(cold_data_ratio, 3),
        "peak_bytes": peak * 1024,
        "peak_bytes_before": before * 1024,
        "pool_bytes": pool_bytes,
        "admission_s_per_10m": round(indexing / rows * 1e7, 2),
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
