"""One bounded, noised question against raw Polars over the same rows in the same process.

Count, sum and distinct residents over 1,000 public keys; every resident bounded to 8 keys and 16 rows a key; values
clipped; consents checked, every resident's budget charged durably, noise included. The raw side is
`group_by(key).agg(len, sum)` over the same codes (u16, in memory, no strings).
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
from datasov.kernel.contribute import RESIDENT, Shard
from datasov.kernel.ledger import Ledger
from datasov.kernel.plan import compile
from datasov.model.document import canonical
from datasov.pool.pool import RESIDENTS_PER_SHARD, schema_order
from datasov.pool.ranks import ranked
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
        self._shards, self._residents = held, residents
        now = int(time.time())
        self._live = np.ones(residents, dtype=np.bool_)
        self._begins = np.full(residents, now - 1000, dtype=np.int64)
        self._ends = np.full(residents, now + 10**8, dtype=np.int64)
        self._cap = np.full(residents, 10**12, dtype=np.int64)

    def snapshot(self, request: monitor.Request) -> monitor.Snapshot:
        now = int(time.time()) + 0 * request.epoch
        eligible = self._live & (self._begins <= now) & (now < self._ends)
        return monitor.Snapshot("bench", {"registry/bench": 0}, eligible, self._cap, self._shards)


def _record(request: monitor.Request, noised: monitor.Noised) -> tuple[bytes, bytes]:
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

        def ours(query: ds.Query = QUERY) -> None:
            nonlocal asked
            asked += 1
            request = monitor.Request(compile(query), LOSS, "bench", ds.central(), asked)
            monitor.release(request, authorise=lambda _: None, ledger=ledger, pool=pool, engine=engine, record=_record)

        raw_frame = pl.concat([s.rows.select("district", "km") for s in held]).rechunk()

        def raw() -> None:
            raw_frame.lazy().group_by("district").agg(pl.len(), pl.col("km").cast(pl.Int64).sum()).collect()

        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, raw_seconds, ratio = alternating(ours, raw, RUNS)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        where = QUERY.where(ds.col("mode").is_in(["bus", "rail"]))
        _, _, where_ratio = alternating(lambda: ours(where), raw, RUNS)
        store.close()
    return {
        "rows": rows,
        "residents": sum(s.residents for s in held),
        "runs": RUNS,
        "seconds": round(seconds, 4),
        "raw_polars_seconds": round(raw_seconds, 4),
        "ratio_to_raw_polars": round(ratio, 3),
        "where_ratio": round(where_ratio, 3),
        "peak_bytes": peak * 1024,
        "peak_bytes_before": before * 1024,
        "pool_bytes": pool_bytes,
        "admission_s_per_10m": round(indexing / rows * 1e7, 2),
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
