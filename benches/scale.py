"""One bounded question by an engine, against threads of one process: the same integers, and what each step costs.

The question, the schema and the residents are those of the bench `kernel`: 50 rows a resident, three statistics over
1,000 keys. Noise is off: both engines' exact totals and prices are compared (`equal_to_local`).

- `seconds`, `ratio_to_local`: both maps and the addition, the shards in the cluster's memory already; medians over runs
  that alternate with threads. `first_seconds`: the first question, whose shards are sent.
- `*_s_per_shard`: one processor's seconds for a shard of 8,192 residents, in a process of its own.
- `open_s_per_shard`: a sealed shard from memory: decryption, frames. `ipc_s_per_mb`: a shard to bytes and back.
- `driver_bytes_per_resident`: what the city's process receives for a resident: the price. `part_bytes_per_shard` stays
  with the workers. `total_bytes_per_shard` is received too. `sent_bytes_per_resident`: to each machine, once a map.
- `charge_s_per_million`, `charge_bytes_per_resident`: all accounts read, charged, sealed and written durably, after one
  charge before. `registry_*`: the list of consents as a city's process reads and holds it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import datasov as ds
from benches import processors
from benches.kernel import LOSS, QUERY, ROWS_A_RESIDENT, TRIPS, shards
from datasov.authority import token
from datasov.authority.events import admission, terms_of
from datasov.authority.registry import Registry, partition_name
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.engine.local import threads
from datasov.engine.ray import _carried, cluster
from datasov.kernel import monitor
from datasov.kernel.contribute import Exact, add, contribute, shares, total
from datasov.kernel.ledger import Ledger, Reservation
from datasov.kernel.monitor import Engine
from datasov.kernel.noise import draw
from datasov.kernel.plan import compile
from datasov.model.consent import Claims, Coverage
from datasov.model.plan import Request
from datasov.model.shard import Integers, Part, Shard, Snapshot
from datasov.pool.pool import RESIDENTS_PER_SHARD, shard_from_bytes, shard_to_bytes
from datasov.pool.sealed import SealedAccounts, fingerprint, open_shard, seal_shard
from datasov.store.sqlite import SQLiteStore

RUNS, MEMBERS = 3, 2000
KEY = bytes(range(32))
PLAN = compile(QUERY)


def answered(engine: Engine, held: list[Shard], residents: int) -> tuple[Integers, Integers]:
    """Exact totals and prices, as the monitor has them made."""
    plan, eligible = PLAN, np.ones(residents, dtype=np.bool_)

    def part(shard: Shard) -> tuple[Part, Integers]:
        made = contribute(plan, shard, eligible[shard.first : shard.first + shard.residents])
        return made, shares(plan, made, LOSS)

    def paid(item: tuple[Part, Integers]) -> Exact:
        return total(plan, item[0], eligible[item[0].first : item[0].first + item[0].residents])

    parts = list(engine(part, held))
    owed = np.concatenate([cost for _, cost in parts])
    return np.stack(add(engine(paid, parts), plan)._values), owed


@contextmanager
def engine_of(name: str, pool_bytes: int) -> Iterator[Engine]:
    """The engine by name; Ray as a cluster of this machine's processors, started and stopped."""
    if name == "local":
        yield threads()
        return
    import ray

    pl.thread_pool_size()  # this process's own threads are set before the workers' are
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "POLARS_MAX_THREADS": "1"}
    ray.init(
        address="local", num_cpus=processors(), include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=2 * pool_bytes + 2**28, _system_config={"automatic_object_spilling_enabled": False},
    )  # fmt: skip
    try:
        yield cluster(hold=2 * pool_bytes)
    finally:
        ray.shutdown()


def timed(function: Callable[[], object], runs: int = 5) -> float:
    """Median seconds, after one run that does not count."""
    seconds = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def shard_costs() -> dict[str, object]:
    """What one shard costs one processor; run in a process of its own."""
    ((shard,), _) = shards(RESIDENTS_PER_SHARD * ROWS_A_RESIDENT)
    everybody = np.ones(shard.residents, dtype=np.bool_)
    part = contribute(PLAN, shard, everybody)
    sealed = seal_shard(KEY, "00" * 16, 0, 1, shard_to_bytes(shard))
    name = fingerprint(sealed)

    def opened() -> Shard:
        if fingerprint(sealed) != name:
            raise AssertionError("the shard is not the one that was sealed")
        return shard_from_bytes(open_shard(KEY, "00" * 16, 0, 1, sealed), 0, "")

    sent = pickle.dumps(shard, 5)
    added = total(PLAN, part, everybody)
    return {
        "contribute_s_per_shard": round(timed(lambda: contribute(PLAN, shard, everybody)), 5),
        "price_s_per_shard": round(timed(lambda: shares(PLAN, part, LOSS)), 5),
        "total_s_per_shard": round(timed(lambda: total(PLAN, part, everybody)), 5),
        "open_s_per_shard": round(timed(opened), 5),
        "ipc_s_per_mb": round(timed(lambda: pickle.loads(pickle.dumps(shard, 5))) / (len(sent) / 1e6), 6),  # noqa: S301
        "noise_s": round(timed(lambda: draw(added, PLAN, Reservation(bytes(16), LOSS))), 5),
        "sealed_bytes_per_shard": len(sealed),
        "shard_bytes": len(sent),
        "part_bytes_per_shard": len(pickle.dumps(part, 5)),
        "total_bytes_per_shard": len(pickle.dumps(added, 5)),
    }


def sent_with_a_question(residents: int) -> float:
    """Bytes a resident that travel to each machine beside the shards: what the monitor's first map closes over."""
    sizes: list[int] = []

    def engine(function: Callable[..., object], _: Iterable[object]) -> list[Any]:
        data, buffers = _carried(function)
        sizes.append(len(data) + sum(len(b.raw()) for b in buffers))
        return []

    request = Request(PLAN, LOSS, "bench", ds.central(), 0)
    caps = np.full((2, residents), 10**12, dtype=np.int64)
    monitor._parts(request, Snapshot("bench", {}, caps[0] > 0, caps, []), engine)
    return round(sizes[0] / residents, 2)


def account_costs(owed: Integers) -> dict[str, object]:
    """What charging everybody costs the city's process."""
    caps = np.full((2, len(owed)), 10**12, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        store = SQLiteStore(path, create=True)
        ledger = Ledger(SealedAccounts(store, KEY), ds.zcdp(rho=1000))
        seconds = timed(lambda: ledger.charge(ledger.reserve(LOSS), "bench", owed, caps, {}), RUNS)
        written = sum(map(len, store.read("accounts/bench"))) / store.length("accounts/bench")
        store.close()
    return {
        "charge_s_per_million": round(seconds / len(owed) * 1e6, 4),
        "charge_bytes_per_resident": round(written / len(owed), 2),
    }


class _Events:
    """One partition's stream of admissions."""

    def __init__(self, events: list[bytes]) -> None:
        self._events = events

    def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
        return self._events[after : None if limit < 0 else after + limit] if stream.startswith("registry/") else []

    def length(self, stream: str) -> int:
        return len(self.read(stream))


def registry_costs(members: int = MEMBERS) -> dict[str, object]:
    """What a consent costs the city's process: read when it is opened, held, and looked at for each question."""
    city, now, events = ds.CityId("bench", SigningKey(KEY).public, KEY), int(time.time()), list[bytes]()
    for place in range(members):
        key = SigningKey(sha256(place.to_bytes(4, "big")))
        claims = Claims(
            issuer=key.public, audience=str(city), token_id=place.to_bytes(16, "big"), issued=now, not_before=now,
            expires=now + 10**7, coverage=(Coverage(TRIPS.name, TRIPS.digest, tuple(TRIPS.columns)),), purpose="bench",
            trust=ds.central(), loss=LOSS, jurisdiction="JP", status=place,
        )  # fmt: skip
        if not events:
            events.append(terms_of(claims).event())
        events.append(admission(token.issue(claims, key), place, 0, 1, now, bytes(32)))
    name, registry = partition_name(TRIPS, "bench"), Registry(_Events(events))
    began = time.perf_counter()
    Registry(_Events(events)).partition(name)
    reading = time.perf_counter() - began
    tracemalloc.start()
    partition = registry.partition(name)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    looking = timed(
        lambda: (partition.pending(), partition.caps(), partition.eligible(["km"], {}, "central", "zcdp", now))
    )
    return {
        "registry_read_s_per_million": round(reading / members * 1e6, 1),
        "registry_bytes_per_resident": round(held / members),
        "registry_look_s_per_million": round(looking / members * 1e6, 3),
    }


def unit_costs(owed: Integers) -> dict[str, object]:
    """The unit costs that docs/scaling.md computes with."""
    before = os.environ.get("POLARS_MAX_THREADS")
    os.environ["POLARS_MAX_THREADS"] = "1"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        shard = alone.submit(shard_costs).result()
    if before is None:
        del os.environ["POLARS_MAX_THREADS"]
    return {**shard, **account_costs(owed), **registry_costs()}


def run(size: str, rows: int | None = None, engine: str = "ray") -> dict[str, object]:
    """The figures; `size` is "small" (1M rows of 20,000 residents) or "full" (10M), unless `rows` says otherwise."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        return {"engine": engine, "skipped": "Ray is not installed: pip install 'datasov[ray]'"}
    held, _ = shards(rows or (1_000_000 if size == "small" else 10_000_000))
    residents = sum(s.residents for s in held)
    pool_bytes = sum(int(s.rows.estimated_size()) for s in held)
    local, seconds = threads(), dict[str, list[float]]()
    expected, owed = answered(local, held, residents)
    with engine_of(engine, pool_bytes) as chosen:

        def once(which: str, by: Engine) -> bool:
            began = time.perf_counter()
            made = answered(by, held, residents)
            seconds.setdefault(which, []).append(time.perf_counter() - began)
            return np.array_equal(made[0], expected) and np.array_equal(made[1], owed)

        list(chosen(lambda n: n, range(2 * processors())))  # the workers are there before the clock runs
        equal = once("first", chosen)
        for _ in range(RUNS):
            equal &= once("chosen", chosen) & once("local", local)
    ratios: Iterable[float] = (a / b for a, b in zip(seconds["chosen"], seconds["local"], strict=True))
    figures: dict[str, Any] = {
        "engine": engine,
        "workers": processors(),
        "rows": sum(s.rows.height for s in held),
        "residents": residents,
        "shards": len(held),
        "pool_bytes": pool_bytes,
        "seconds": round(statistics.median(seconds["chosen"]), 4),
        "first_seconds": round(seconds["first"][0], 4),
        "local_seconds": round(statistics.median(seconds["local"]), 4),
        "ratio_to_local": round(statistics.median(ratios), 3),
        "equal_to_local": bool(equal),
        "driver_bytes_per_resident": owed.itemsize,
        "sent_bytes_per_resident": sent_with_a_question(residents),
    }
    return {**figures, **unit_costs(owed)}
