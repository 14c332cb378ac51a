"""The estimate of a question's energy (datasov/model/energy.py), against processor time that is measured here.

Whole releases over simulated pools of several sizes, their shards opened from sealed bytes each time as a city opens
them, the residents charged durably, the noise drawn, the output committed. A virtual machine shows no power, so what is
checked are the model's seconds; its watts and its overhead are other people's figures, and named with the model.

- `modelled_to_measured_min`, `_median`, `_max`: the model's processor seconds over those measured, over all questions.
- `curve`: each question, with both and with the joules of the model.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import datasov as ds
from benches.kernel import LOSS, QUERY, ROWS_A_RESIDENT, TRIPS, _Pool, _record, shards
from datasov.engine.local import threads
from datasov.kernel import monitor
from datasov.kernel.ledger import Ledger
from datasov.kernel.plan import compile
from datasov.model.energy import OVERHEAD, WATTS, estimate
from datasov.model.plan import Request
from datasov.model.shard import Shard, Snapshot
from datasov.pool.pool import shard_from_bytes, shard_to_bytes
from datasov.pool.sealed import open_shard, seal_shard
from datasov.store.sqlite import SQLiteStore

RUNS, KEY, NAME = 3, bytes(range(32)), "00" * 16
ASKED = {
    "count, sum and residents by district": QUERY,
    "count by district, 2 rows a resident": ds.query(TRIPS).keys("district").bound(rows=2, keys=1).count(),
    "count by district and mode": ds.query(TRIPS).keys("district", "mode").bound(rows=16, keys=1).count(),
    "one count": ds.query(TRIPS).bound(rows=16, keys=1).count(),
    "one count, sum and residents": ds.query(TRIPS).bound(rows=16, keys=1).count().sum("km").distinct(),
    "median of km": ds.query(TRIPS).bound(rows=16, keys=1).median("km"),
}


class Sealed(_Pool):
    """A pool whose shards are opened from their sealed bytes at each question, as a city's first one opens them."""

    def __init__(self, held: list[Shard]) -> None:
        super().__init__(held, sum(s.residents for s in held))
        self._sealed = [
            (seal_shard(KEY, NAME, n, 1, shard_to_bytes(shard)), shard.first, shard.order)
            for n, shard in enumerate(held)
        ]

    def snapshot(self, request: Request) -> Snapshot:
        opened = [
            shard_from_bytes(open_shard(KEY, NAME, n, 1, data), first, order)
            for n, (data, first, order) in enumerate(self._sealed)
        ]
        return replace(super().snapshot(request), shards=opened)


def measured(query: ds.Query, pool: Sealed, ledger: Ledger, first: int, account: str) -> float:
    """The least processor seconds of some whole releases of a question."""
    plan, seconds = compile(query), []
    for epoch in range(first, first + RUNS):
        request = Request(plan, LOSS, account, ds.central(), epoch)
        began = time.process_time()
        monitor.release(
            request, authorise=lambda _: None, ledger=ledger, pool=pool, engine=threads(), record=_record
        )  # fmt: skip
        seconds.append(time.process_time() - began)
    return min(seconds)


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The figures; "small" goes to 200,000 rows, "full" to 5M, unless `rows` says otherwise."""
    most = rows or (200_000 if size == "small" else 5_000_000)
    curve, ratios, asked = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "bench.db", create=True)
        ledger = Ledger(store, ds.zcdp(rho=1000))
        for many in sorted({min(most, n) for n in (5_000, 100_000, 1_000_000, most)}):
            held, _ = shards(many)
            pool, residents = Sealed(held), sum(s.residents for s in held)
            for name, query in ASKED.items():
                seconds = measured(query, pool, ledger, asked, f"bench of {residents}")
                asked += RUNS
                found = estimate(query, compile(query).statistics)
                joules = found.joules(residents, ROWS_A_RESIDENT)
                ratios.append(joules / WATTS / OVERHEAD / seconds)
                curve.append(
                    {"question": name, "residents": residents, "seconds": round(seconds, 4),
                     "modelled": round(joules / WATTS / OVERHEAD, 4), "joules": round(joules, 4)}
                )  # fmt: skip
        store.close()
    return {
        "modelled_to_measured_min": round(min(ratios), 3),
        "modelled_to_measured_median": round(statistics.median(ratios), 3),
        "modelled_to_measured_max": round(max(ratios), 3),
        "watts": WATTS, "overhead": OVERHEAD, "rows_a_resident": ROWS_A_RESIDENT, "curve": curve,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run("small")))
