"""A year of small appends, compacted: a meter puts a row every 30 minutes, a phone one every 5, each put durable.

The rows go through `Vault.put` one at a time, as a device would put them; the vault is opened anew every day. It folds
its logs by itself while it grows; `compact` then runs in a process of its own, whose peak memory is `peak_bytes` (of
which `start_bytes` were there once the vault was open). `scan_ratio` compares a scan of both tables with plain zstd-1
Parquet of the same rows: medians of runs in turns. `scan_ratio_before` is that of the vault as the appends left it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benches.vault import alternate
from datasov.crypto import kdf
from datasov.model.columns import Category, Decimal, Integer, Timestamp
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.vault import Vault

METER = Schema(
    "meter",
    domain="energy",
    columns={
        "at": Timestamp("2027-01-01", "2029-01-01"),
        "kwh": Decimal(0, 30, scale=3),
        "volts": Integer(200, 260, nullable=True),
    },
)
PHONE = Schema(
    "phone",
    domain="mobility",
    columns={
        "at": Timestamp("2027-01-01", "2029-01-01"),
        "cell": Integer(0, 20_000),
        "mode": Category(["still", "foot", "cycle", "car", "bus", "rail"]),
        "metres": Integer(0, 12_000),
        "battery": Integer(0, 100, nullable=True),
    },
)
_DAY = 86_400 * 10**6
_CHILD = """
import json, sys
from pathlib import Path
from datasov.vault import Vault
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
with Vault.open(sys.argv[1], device_key=bytes.fromhex(sys.stdin.read())) as vault:
    start = peak()
    vault.compact()
    print(json.dumps({"start_bytes": start, "peak_bytes": peak()}))
"""


def _rows(schema: Schema, days: int, every: int, seed: int) -> pl.DataFrame:
    """Codes of a row every so many minutes."""
    rng, count = np.random.default_rng(seed), days * 24 * 60 // every
    start, _ = schema.column("at").range
    away = rng.random(count) < 0.3
    values = {
        "at": start + np.arange(count) * every * 60 * 10**6,
        "kwh": rng.gamma(2, 150, count).astype(np.int64).clip(0, 30_000),
        "volts": rng.normal(230, 3, count).astype(np.int64).clip(200, 260),
        "cell": np.where(away, rng.zipf(1.5, count).clip(0, 20_000), 17),
        "mode": np.where(away, rng.integers(1, 6, count), 0),
        "metres": np.where(away, rng.gamma(1, 900, count).astype(np.int64), 0).clip(0, 12_000),
        "battery": rng.integers(5, 101, count),
    }
    return pl.DataFrame([pl.Series(n, values[n]).cast(code_dtype(c)) for n, c in schema.items])


def _append(path: Path, key: bytes, tables: dict[Schema, pl.DataFrame]) -> int:
    """Put every row by itself, in the order of their times; how many puts that took."""
    due = [(at, schema, i) for schema, rows in tables.items() for i, at in enumerate(rows["at"].to_list())]
    due.sort(key=lambda item: item[0])
    vault, day = Vault.create(path, device_key=key), due[0][0] // _DAY
    for at, schema, i in due:
        if at // _DAY != day:
            vault.close()
            vault, day = Vault.open(path, device_key=key), at // _DAY
        vault.put([(schema, tables[schema][i])])
    vault.close()
    return len(due)


def _ratio(path: Path, key: bytes, tables: dict[Schema, pl.DataFrame], runs: int) -> float:
    for schema, rows in tables.items():
        rows.write_parquet(path.with_name(schema.name), compression="zstd", compression_level=1)
    with Vault.open(path, device_key=key, write=False) as vault:
        if any(not vault.scan(schema.name).equals(rows) for schema, rows in tables.items()):
            raise AssertionError("the vault gave back other rows")
        plain, sealed = alternate(
            runs,
            [
                lambda: [pl.read_parquet(path.with_name(schema.name)) for schema in tables],
                lambda: [vault.scan(schema.name) for schema in tables],
            ],
        )
    return sealed / plain


def run(size: str, days: int | None = None) -> dict[str, object]:
    """The figures after so many days; "small" takes 3, "full" 365 (122,640 durable puts)."""
    days = days or (3 if size == "small" else 365)
    runs = 25 if size == "full" else 9
    tables = {METER: _rows(METER, days, 30, 1), PHONE: _rows(PHONE, days, 5, 2)}
    with tempfile.TemporaryDirectory() as folder:
        path, key = Path(folder) / "v", kdf.random(32)
        began = time.perf_counter()
        puts = _append(path, key, tables)
        put_us = (time.perf_counter() - began) / puts * 1e6
        left = len(list((path / "seg").iterdir())), _ratio(path, key, tables, runs)
        began = time.perf_counter()
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path)], input=key.hex(), capture_output=True, text=True, check=True
        )
        compacted = time.perf_counter() - began
        return {
            "days": days,
            "rows": sum(rows.height for rows in tables.values()),
            "put_us": put_us,
            "segments_before": left[0],
            "scan_ratio_before": left[1],
            "segments": len(list((path / "seg").iterdir())),
            "scan_ratio": _ratio(path, key, tables, runs),
            "compact_process_s": compacted,
            **json.loads(child.stdout),
        }
