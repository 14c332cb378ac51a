"""The vault against plain files: zstd-1 Parquet through Polars, and a raw write with fdatasync.

Every ratio is a quotient of medians of runs that alternate between the two, on the same rows, in one directory. The
page cache is warm for both. What a flush takes depends on the disk, and bounds the rows a second: `plain_append_us` and
`plain_frame_rows_per_s` are those of the raw write, `frame_rows_per_cpu_s` is what the vault's own work would allow.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from datasov.model.columns import Boolean, Category, Decimal, Integer, Timestamp
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.vault import Vault
from datasov.vault.codec import to_ipc

SCHEMA = Schema(
    "purchases",
    domain="payments",
    columns={
        "department": Category([f"d{i}" for i in range(30)]),
        "store": Integer(0, 500),
        "quantity": Integer(0, 100),
        "price": Decimal(0, 5000, scale=2),
        "discount": Decimal(0, 100, scale=2, nullable=True),
        "at": Timestamp("2027-01-01", "2028-01-01"),
        "loyalty": Boolean(),
        "basket": Integer(0, 2**31),
    },
)


def codes(rows: int, seed: int = 1) -> pl.DataFrame:
    """Rows shaped like purchases: skewed categories, sorted times to the second, a wide random identifier."""
    rng = np.random.default_rng(seed)
    start, end = SCHEMA.column("at").range
    values = {
        "department": rng.geometric(0.12, rows).clip(1, 30) - 1,
        "store": rng.zipf(1.4, rows).clip(0, 500),
        "quantity": rng.poisson(2, rows).clip(0, 100),
        "price": rng.lognormal(6, 1, rows).clip(0, 500_000).astype(np.int64),
        "discount": rng.integers(0, 10_000, rows),
        "at": np.sort(rng.integers(start // 10**6, end // 10**6, rows)) * 10**6,
        "loyalty": (rng.random(rows) < 0.6).astype(np.int64),
        "basket": rng.integers(0, 2**31, rows),
    }
    frame = pl.DataFrame([pl.Series(n, values[n]).cast(code_dtype(c)) for n, c in SCHEMA.items])
    missing = pl.Series(rng.random(rows) < 0.3)
    return frame.with_columns(discount=pl.when(missing).then(None).otherwise(pl.col("discount")))


def alternate(runs: int, tasks: Sequence[Callable[[], object]]) -> list[float]:
    """The median seconds of each task, all run in turn; one round before the first counts for none."""
    taken: list[list[float]] = [[] for _ in tasks]
    for turn in range(runs + 1):
        for task, times in zip(tasks, taken, strict=True):
            start = time.perf_counter()
            task()
            if turn:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def _scans(folder: Path, rows: int, runs: int) -> dict[str, object]:
    frame, plain, key = codes(rows), folder / "plain.parquet", os.urandom(32)
    frame.write_parquet(plain, compression="zstd", compression_level=1)
    wanted, late = ["department", "at"], pl.col("at") > frame["at"].quantile(0.75)
    with Vault.create(folder / "scan.vault", device_key=key) as vault:
        vault.put([(SCHEMA, frame)])
        if not vault.scan("purchases").equals(frame):
            raise AssertionError("the vault gave back other rows")
        full = alternate(runs, [lambda: pl.read_parquet(plain), lambda: vault.scan("purchases")])
        two = alternate(
            runs,
            [
                lambda: pl.read_parquet(plain, columns=wanted).filter(late),
                lambda: vault.scan("purchases", wanted).filter(late),
            ],
        )
    size = sum(path.stat().st_size for path in (folder / "scan.vault").rglob("*") if path.is_file())

    def reopen() -> None:
        Vault.open(folder / "scan.vault", device_key=key).close()

    (opened,) = alternate(runs, [reopen])
    return {
        "scan_ratio": full[1] / full[0],
        "two_column_ratio": two[1] / two[0],
        "size_ratio": size / plain.stat().st_size,
        "open_ms": opened * 1e3,
        "plain_scan_ms": full[0] * 1e3,
    }


def _appends(folder: Path, runs: int) -> dict[str, object]:
    one, thousand = codes(1), codes(1000)
    raw = os.open(folder / "raw.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(data: bytes) -> None:
        os.write(raw, data)
        os.fdatasync(raw)

    with Vault.create(folder / "append.vault", device_key=os.urandom(32)) as vault:
        single = to_ipc(one)
        plain, sealed = alternate(runs, [lambda: write(single), lambda: vault.put([(SCHEMA, one)])])
        wide = to_ipc(thousand)
        plain_wide, sealed_wide = alternate(runs, [lambda: write(wide), lambda: vault.put([(SCHEMA, thousand)])])
        spent = time.process_time()
        for _ in range(runs):
            vault.put([(SCHEMA, thousand)])
        spent = (time.process_time() - spent) / runs
    os.close(raw)
    return {
        "append_ratio": sealed / plain,
        "append_ratio_1000_rows": sealed_wide / plain_wide,
        "append_us": sealed * 1e6,
        "plain_append_us": plain * 1e6,
        "frame_rows_per_s": 1000 / sealed_wide,
        "plain_frame_rows_per_s": 1000 / plain_wide,
        "frame_rows_per_cpu_s": 1000 / spent,
    }


def run(size: str) -> dict[str, object]:
    """The figures of the vault: `size` is "small" (seconds) or "full" (1M rows of 8 columns)."""
    rows, runs = (1_000_000, 15) if size == "full" else (100_000, 7)
    appends = 200 if size == "full" else 60
    with tempfile.TemporaryDirectory() as folder:
        return {"rows": rows, "runs": runs} | _scans(Path(folder), rows, runs) | _appends(Path(folder), appends)
