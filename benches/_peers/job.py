"""The one job, and how every system's process measures it.

The question: count of rows and sum of `value`, clipped to LOW .. HIGH, for each of KEYS public keys. A resident counts
in at most KEYS_A_RESIDENT keys, with at most ROWS_A_KEY rows in each. The loss is a pure EPSILON for one resident with
all their rows, half of it for each statistic: Laplace noise of scale 32 for counts (sensitivity 16) and 1,600 for sums
(sensitivity 800).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

KEYS, KEYS_A_RESIDENT, ROWS_A_KEY = 200, 4, 4
LOW, HIGH, EPSILON = 0, 50, 1.0
SCALES = tuple(KEYS_A_RESIDENT * ROWS_A_KEY * most / (EPSILON / 2) for most in (1, HIGH))
"""Scale of the Laplace noise of counts and of sums, and so its mean absolute error (Laplace: E|X| = scale)."""
RAW_RUNS = 5

Totals: TypeAlias = npt.NDArray[np.float64]
"""Shape (2, KEYS): counts and sums by key."""
Seconds: TypeAlias = npt.NDArray[np.float64]
"""Last axis: seconds on the clock, and of the CPUs."""


@dataclass(frozen=True, slots=True)
class System:
    """How one system does the job.

    Attributes:
        distribution: its name on PyPI, for the version; "" where that is said otherwise.
        bounds: what it bounds, in words.
        prepare: the rows in the form that it takes; made once, not in the ratio.
        ask: the whole job, noise included: a fresh draw each time.
        exact: the totals that the noise was added to: the system's own bounds, no noise.
        scales: of its noise, as its sensitivities say; 0 for none.
        variants: other ways to do the job, by the name of their ratio.
    """

    distribution: str
    bounds: str
    prepare: Callable[[pl.DataFrame], Any]
    ask: Callable[[Any], Totals]
    exact: Callable[[Any], Totals]
    scales: Sequence[float] = SCALES
    variants: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)


def by_key(keys: Sequence[int], counts: Sequence[float], sums: Sequence[float]) -> Totals:
    """Totals from rows in any order; a key that is not there has 0."""
    totals = np.zeros((2, KEYS))
    totals[:, np.asarray(keys, dtype=np.int64)] = np.asarray([counts, sums], dtype=np.float64)
    return totals


def raw(frame: pl.DataFrame) -> pl.DataFrame:
    """What everything is compared with: Polars alone, no bounds, no clipping, no noise."""
    total = pl.col("value").cast(pl.Int64).sum()
    return frame.lazy().group_by("key").agg(pl.len().alias("rows"), total).collect()


def peak_bytes() -> int:
    """The most memory that this process held.

    Linux hands `ru_maxrss` of the parent on to what it executes, so the process's own high-water mark comes first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if lines:
            return int(lines[0].split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def timed(function: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Seconds on the clock and of the process's CPUs (all threads), and what the function gave."""
    clock, cpu = time.perf_counter(), time.process_time()
    made = function()
    return np.array([time.perf_counter() - clock, time.process_time() - cpu]), made


def in_turns(first: Callable[[], Any], second: Callable[[], object], runs: int) -> tuple[Seconds, Seconds, list[Any]]:
    """Seconds of each of two that run in turns (shape (runs, 2)), and what the first gave; one more round comes before.

    The second, which is short, runs RAW_RUNS times a turn, and the median counts: a single time of milliseconds says
    more about what else the machine did just then, and about caches that the first left cold.
    """
    a, b, gave = [], [], []
    for _ in range(runs + 1):
        seconds, made = timed(first)
        a.append(seconds)
        b.append(np.median([timed(second)[0] for _ in range(RAW_RUNS)], axis=0))
        gave.append(made)
    return np.array(a[1:]), np.array(b[1:]), gave[1:]


def measure(system: System, rows: Path, runs: int) -> dict[str, Any]:
    """The figures of one system over the rows in a Parquet file; only the job is timed, no import and no loading."""
    frame = pl.read_parquet(rows)
    preparing, prepared = timed(lambda: system.prepare(frame))
    before = peak_bytes()
    seconds, raws, noised = in_turns(lambda: system.ask(prepared), lambda: raw(frame), runs)
    peak, ratios = peak_bytes(), np.median(seconds / raws, axis=0)
    variants = {}
    for name, variant in system.variants.items():
        other, beside, _ = in_turns(lambda variant=variant: variant(prepared), lambda: raw(frame), runs)  # type: ignore[misc]
        variants[name] = round(float(np.median(other / beside, axis=0)[0]), 2)
    exact, plain = system.exact(prepared), raw(frame)
    errors = np.abs(np.stack(noised) - exact).mean(axis=(0, 2))
    wide = 7 / np.sqrt(runs * KEYS)
    return {
        "version": version(system.distribution) if system.distribution else "",
        "ratio_to_raw_polars": round(float(ratios[0]), 2),
        "cpu_ratio_to_raw_polars": round(float(ratios[1]), 2),
        **variants,
        "prepare_ratio": round(float(preparing[0] / np.median(raws[:, 0])), 2),
        "prepare_cpu_ratio": round(float(preparing[1] / np.median(raws[:, 1])), 2),
        "seconds": round(float(np.median(seconds[:, 0])), 4),
        "cpu_seconds": round(float(np.median(seconds[:, 1])), 4),
        "raw_polars_seconds": round(float(np.median(raws[:, 0])), 4),
        "raw_polars_cpu_seconds": round(float(np.median(raws[:, 1])), 4),
        "raw_polars_version": version("polars"),
        "peak_bytes": peak,
        "peak_bytes_before": before,
        "l1_error": round(float(errors[0]), 2),
        "sum_l1_error": round(float(errors[1]), 1),
        "expected_l1_error": float(system.scales[0]),
        "expected_sum_l1_error": float(system.scales[1]),
        "error_as_expected": bool(
            all(abs(e - s) <= wide * s + 0.01 for e, s in zip(errors, system.scales, strict=True))
        ),
        "rows_counted": round(float(exact[0].sum()) / frame.height, 3),
        "bounds": system.bounds,
        "_raw": by_key(plain["key"].to_list(), plain["rows"].to_list(), plain["value"].to_list()).astype(int).tolist(),
    }


def main(system: System) -> None:
    """`python -m benches._peers.NAME ROWS.parquet RUNS`: one line of JSON."""
    print(json.dumps(measure(system, Path(sys.argv[1]), int(sys.argv[2])), allow_nan=False))
