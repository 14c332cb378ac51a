"""datasov: the whole release, as the bench `kernel` has it.

Timed: consents looked at, the city's budget reserved durably, rows bounded by stored ranks, every resident's own
account charged durably, noise (discrete Laplace), output and leaf committed. Not timed but in `prepare_ratio`: the
rows clustered and ranked, once, as when they are admitted, and the city founded. Signatures and decryption belong to
admission too, and are in neither.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

import datasov as ds
from benches._peers import job
from benches.kernel import _Pool, _record
from datasov.engine.local import threads
from datasov.kernel import monitor
from datasov.kernel.contribute import Exact, add, contribute, total
from datasov.kernel.ledger import Ledger
from datasov.kernel.noise import draw
from datasov.kernel.plan import compile
from datasov.model.plan import Noised, Plan, Request
from datasov.model.shard import RESIDENT, Shard
from datasov.pool.pool import RESIDENTS_PER_SHARD, schema_order
from datasov.pool.ranks import ranked
from datasov.store.sqlite import SQLiteStore

VISITS = ds.Schema(
    "visits",
    domain="mobility",
    columns={"key": ds.Category([f"K{i:03}" for i in range(job.KEYS)]), "value": ds.Integer(0, 100)},
    keys=[("key",)],
)
QUERY = ds.query(VISITS).keys("key").bound(rows=job.ROWS_A_KEY, keys=job.KEYS_A_RESIDENT).count()
QUERY = QUERY.sum("value", low=job.LOW, high=job.HIGH)
LOSS = ds.pure(epsilon=job.EPSILON)
PLAN = compile(QUERY)


@dataclass(frozen=True, slots=True)
class City:
    """A pool of ranked shards, with its durable ledger."""

    pool: _Pool
    shards: list[Shard]
    ledger: Ledger
    epochs: Iterator[int]
    folder: tempfile.TemporaryDirectory[str]


def shards(frame: pl.DataFrame) -> list[Shard]:
    """The rows as the pool lays them: clustered by resident, ranked."""
    rows, made = frame.sort("resident"), []
    residents = int(rows["resident"][-1]) + 1
    firsts = [*range(0, residents, RESIDENTS_PER_SHARD), residents]
    edges = np.searchsorted(rows["resident"].to_numpy(), firsts).tolist()
    for first, start, end in zip(firsts, edges, edges[1:], strict=False):
        count = min(RESIDENTS_PER_SHARD, residents - first)
        part = rows[start:end].with_columns((pl.col("resident") - first).cast(pl.UInt32).alias(RESIDENT))
        identities = np.arange(first, first + count, dtype=np.uint64)
        laid = ranked(part.drop("resident"), VISITS, b"a rank secret of thirty-two byte", identities).rechunk()
        made.append(Shard(first, count, laid, None, schema_order(VISITS)))
    return made


def prepare(frame: pl.DataFrame) -> City:
    """The rows admitted into a new city."""
    held, folder = shards(frame), tempfile.TemporaryDirectory()
    store = SQLiteStore(Path(folder.name) / "bench.db", create=True)
    pool = _Pool(held, sum(s.residents for s in held))
    return City(pool, held, Ledger(store, ds.zcdp(rho=1000)), itertools.count(1), folder)


def request(city: City) -> Request:
    """A question that was not asked before."""
    return Request(compile(QUERY), LOSS, "bench", ds.central(), next(city.epochs))


def released(city: City) -> job.Totals:
    """The whole release."""
    kept: list[Noised] = []

    def record(asking: Request, noised: Noised) -> tuple[bytes, bytes]:
        kept.append(noised)
        return _record(asking, noised)

    monitor.release(
        request(city), authorise=lambda _: None, ledger=city.ledger, pool=city.pool, engine=threads(), record=record
    )
    return np.stack(kept[0].values).astype(np.float64)


def added(plan: Plan, city: City, eligible: npt.NDArray[np.bool_]) -> Exact:
    """Exact totals under the bounds."""

    def part(shard: Shard) -> Exact:
        here = eligible[shard.first : shard.first + shard.residents]
        return total(plan, contribute(plan, shard, here), here)

    return add(threads()(part, city.shards), plan)


def answered(city: City) -> Noised:
    """A release but for the charges of the residents' own accounts and the commit."""
    asking = request(city)
    snapshot, reservation = city.pool.snapshot(asking), city.ledger.reserve(asking.loss)
    return draw(added(asking.plan, city, snapshot.eligible), asking.plan, reservation)


def exact(city: City) -> job.Totals:
    """What the noise was added to."""
    everybody = np.ones(sum(s.residents for s in city.shards), dtype=np.bool_)
    return np.stack(added(PLAN, city, everybody)._values).astype(np.float64)


SYSTEM = job.System(
    "datasov",
    f"{job.KEYS_A_RESIDENT} keys a resident and {job.ROWS_A_KEY} rows in each, by secret ranks",
    prepare,
    released,
    exact,
    job.SCALES,
    {"uncharged_ratio": answered},
)

if __name__ == "__main__":
    job.main(SYSTEM)
