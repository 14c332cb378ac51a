"""Where noise dominates: one count over ever more public cells, over the same pool.

`curve`: for each number of cells, the whole answer's seconds and the share of them that drawing the noise takes (one
vector call of OpenDP a statistic). Medians over the runs.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import polars as pl

import datasov as ds
from datasov.kernel.contribute import add, contribute, total
from datasov.kernel.ledger import Reservation
from datasov.kernel.noise import draw
from datasov.kernel.plan import compile
from datasov.model.shard import RESIDENT, Shard
from datasov.pool.pool import RESIDENTS_PER_SHARD, schema_order
from datasov.pool.ranks import ranked

LOSS, RUNS, ROWS_A_RESIDENT = ds.zcdp(rho="0.02"), 3, 50


def pool(cells: int, rows: int) -> tuple[ds.Query, list[Shard]]:
    """A question with that many cells (a product of two keys), and a simulated pool for it."""
    side = max(1, int(cells**0.5))
    sizes = (side, -(-cells // side))
    schema = ds.Schema(
        "visits",
        domain="mobility",
        columns={n: ds.Category([f"{n}{i}" for i in range(size)]) for n, size in zip("ab", sizes, strict=True)},
        keys=[("a", "b")],
    )
    rng, shards = np.random.default_rng(cells), []
    residents = max(1, rows // ROWS_A_RESIDENT)
    for first in range(0, residents, RESIDENTS_PER_SHARD):
        count = min(RESIDENTS_PER_SHARD, residents - first)
        frame = pl.DataFrame(
            {
                name: pl.Series(
                    rng.integers(0, size, count * ROWS_A_RESIDENT), dtype=pl.UInt8 if size <= 256 else pl.UInt16
                )
                for name, size in zip("ab", sizes, strict=True)
            }
        ).with_columns(pl.Series(RESIDENT, np.repeat(np.arange(count, dtype=np.uint32), ROWS_A_RESIDENT)))
        identities = np.arange(first, first + count, dtype=np.uint64)
        shards.append(Shard(first, count, ranked(frame, schema, bytes(32), identities), None, schema_order(schema)))
    return ds.query(schema).keys("a", "b").bound(rows=16, keys=8).count(), shards


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The curve; "small" goes to 10,000 cells over 200,000 rows, "full" to 1,000,000 over 2M."""
    rows = rows or (200_000 if size == "small" else 2_000_000)
    curve = []
    for cells in (10, 100, 1_000, 10_000, 100_000, 1_000_000)[: 4 if size == "small" else 6]:
        query, shards = pool(cells, rows)
        plan = compile(query)
        whole, drawing = [], []
        for _ in range(RUNS):
            began = time.perf_counter()
            parts = [(contribute(plan, s, np.ones(s.residents, dtype=np.bool_)), s.residents) for s in shards]
            exact = add([total(plan, part, np.ones(n, dtype=np.bool_)) for part, n in parts], plan)
            added = time.perf_counter()
            draw(exact, plan, Reservation(bytes(16), LOSS))
            done = time.perf_counter()
            whole.append(done - began)
            drawing.append((done - added) / (done - began))
        curve.append(
            {
                "cells": plan.cells,
                "seconds": round(statistics.median(whole), 4),
                "noise_share": round(statistics.median(drawing), 3),
            }
        )
    return {"rows": rows, "runs": RUNS, "curve": curve}
