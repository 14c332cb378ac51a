"""A tenant host: vaults of simulated residents made, and one small domain of all of them collected.

Each resident holds 8 rows of 4 columns in one domain, in a vault with keys of its own. `created_per_s` and
`collected_per_s` count seconds of the clock, in one process; `..._per_core` count seconds of processor time over all
its threads, so that they hold on a machine that does other things too. What is collected is checked against the sums of
what was put.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from datasov.crypto import kdf
from datasov.model.columns import Boolean, Integer
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.model.shard import RESIDENT
from datasov.vault.host import Host, Items

SCHEMA = Schema(
    "meter",
    domain="energy",
    columns={
        "half_hour": Integer(0, 47),
        "wh": Integer(0, 20_000),
        "celsius": Integer(-30, 50, nullable=True),
        "away": Boolean(),
    },
)
ROWS = 8
_AT_ONCE = 4096


def _frames(residents: int, sums: dict[str, int]) -> Iterator[Items]:
    """Rows of one resident after the other; their sums and the number of their nulls are added to `sums`."""
    rng = np.random.default_rng(7)
    for first in range(0, residents, _AT_ONCE):
        count = min(_AT_ONCE, residents - first)
        size = count * ROWS
        values = {
            "half_hour": np.tile(np.arange(ROWS), count),
            "wh": rng.gamma(2, 150, size).astype(np.int64).clip(0, 20_000),
            "celsius": rng.normal(12, 8, size).astype(np.int64).clip(-30, 50),
            "away": rng.random(size) < 0.4,
        }
        frame = pl.DataFrame([pl.Series(n, values[n]).cast(code_dtype(c)) for n, c in SCHEMA.items])
        missing = pl.Series(rng.random(size) < 0.02)
        frame = frame.with_columns(celsius=pl.when(missing).then(None).otherwise(pl.col("celsius")))
        _add(sums, frame)
        for piece in frame.iter_slices(ROWS):
            yield [(SCHEMA, piece)]


def _add(sums: dict[str, int], frame: pl.DataFrame) -> None:
    for name, _ in SCHEMA.items:
        sums[name] = sums.get(name, 0) + int(frame[name].cast(pl.Int64).sum())
    sums["missing"] = sums.get("missing", 0) + frame["celsius"].null_count()


def run(size: str, residents: int | None = None) -> dict[str, object]:
    """The figures of a host; "small" makes 5,000 vaults, "full" 1,000,000."""
    count = residents or (5_000 if size == "small" else 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path, key, put = Path(folder) / "host", kdf.random(32), dict[str, int]()
        clock, cpu = time.perf_counter(), time.process_time()
        with Host.create(path, device_key=key) as host:
            host.admit(_frames(count, put))
        created, created_cpu = time.perf_counter() - clock, time.process_time() - cpu
        held = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        clock = time.perf_counter()
        with Host.open(path, device_key=key, write=False) as host:
            opened, found, seen = time.perf_counter() - clock, dict[str, int](), 0
            spent = spent_cpu = 0.0
            frames = host.collect(SCHEMA.name)
            while True:
                clock, cpu = time.perf_counter(), time.process_time()
                frame = next(frames, None)
                spent, spent_cpu = spent + time.perf_counter() - clock, spent_cpu + time.process_time() - cpu
                if frame is None:
                    break
                _add(found, frame)
                seen += frame[RESIDENT].n_unique()
    if (found, seen) != (put, count):
        raise AssertionError("the host gave back other rows")
    return {
        "residents": count,
        "created_per_s": count / created,
        "created_per_s_per_core": count / created_cpu,
        "collected_per_s": count / spent,
        "collected_per_s_per_core": count / spent_cpu,
        "bytes_per_resident": held / count,
        "open_s": opened,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
