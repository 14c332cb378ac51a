"""The same job by several libraries, each in an environment and a process of its own.

The job, its bounds and its noise are those of `benches/_peers/job.py`: count and sum for each of 200 public keys, at
most 4 keys a resident and 4 rows in each, pure epsilon 1 for a resident with all their rows. Rows come from one seeded
generator, 10 a resident, in no order, and reach every process as one Parquet file.

Peers are installed from PyPI into a cache folder, with the versions of PEERS, and stay there (about 2 GB in all) for
the next time. One that does not install, or takes longer than it may, is skipped with the reason.

    DATASOV_BENCH_CACHE=DIR   that folder; default: datasov-bench in the user's cache folder
    DATASOV_BENCH_INSTALL=0   install nothing, and skip what is not there

For each system:

- `ratio_to_raw_polars`: the job against Polars' `group_by(key).agg(len, sum)` over the same frame in the same process,
  in turns (five of it to one job, their median); the median of the ratios. Imports and loading are not timed.
  `uncharged_ratio` (datasov): without charging the residents' own accounts, and without the commit.
- `cpu_ratio_to_raw_polars`: the same of CPU time, all threads together. On a machine that others use as well it is the
  one to read: a job of a minute waits for its share of the processors, one of milliseconds often does not. It leaves
  out waiting for the disk.
- `prepare_ratio`, `prepare_cpu_ratio`: what was made of the rows before, once, and is not in the ratio: clusters and
  ranks (datasov), tuples (PipelineDP), a pandas frame (SmartNoise, diffprivlib), other types (OpenDP).
- `l1_error`: mean absolute difference, over cells and runs, of the noised counts from the counts that the system's own
  bounds leave, so of the noise alone; `rows_counted` is the share of rows that they leave. `expected_l1_error` is what
  its sensitivity says; `error_as_expected` is false where the two are further apart than seven standard errors.
- `peak_bytes`: the most memory of the process; `peak_bytes_before`: with imports and rows, before the first job.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benches._peers.job import EPSILON, HIGH, KEYS, KEYS_A_RESIDENT, LOW, ROWS_A_KEY

ROOT = Path(__file__).resolve().parent.parent
ROWS_A_RESIDENT = 10
RUNS = {"small": 2, "full": 5}
INSTALL_SECONDS = {"small": (90.0, 100.0), "full": (600.0, 1800.0)}
"""What installing one peer may take, and all of them together."""
RUN_SECONDS = {"small": 45.0, "full": 1200.0}


@dataclass(frozen=True, slots=True)
class Peer:
    """A system: its name, its module in `benches._peers`, and what pip installs for it (nothing: this environment)."""

    name: str
    module: str
    pins: tuple[str, ...] = ()


PEERS = (
    Peer("raw Polars", "raw_polars"),
    Peer("datasov", "datasov_release"),
    Peer("OpenDP, Polars API", "opendp_polars", ("opendp[polars]==0.16.0", "polars==1.36.1")),
    Peer("PipelineDP, local", "pipelinedp", ("pipeline-dp==0.3.1", "python-dp==1.1.5", "polars==2.1.0")),
    Peer(
        "SmartNoise SQL", "smartnoise", ("smartnoise-sql==1.0.10", "opendp==0.14.2", "pandas==2.3.3", "polars==2.1.0")
    ),
    Peer(
        "diffprivlib, pandas by hand",
        "pandas_diffprivlib",
        ("diffprivlib==0.6.6", "scikit-learn==1.5.2", "pandas==2.3.3", "polars==2.1.0"),
    ),
)


class SkippedError(Exception):
    """Why a system has no figures."""


def simulated(count: int, seed: int = 1) -> pl.DataFrame:
    """Rows in arrival order: `resident` (u32), `key` (u8; half of them the resident's home) and `value` (0 to 100)."""
    rng = np.random.default_rng(seed)
    residents = max(1, count // ROWS_A_RESIDENT)
    resident = np.arange(count, dtype=np.uint32) % np.uint32(residents)
    home = rng.integers(0, KEYS, residents)[resident]
    key = np.where(rng.random(count) < 0.5, home, rng.integers(0, KEYS, count)).astype(np.uint8)
    value = rng.integers(0, 101, count).astype(np.uint8)
    order = rng.permutation(count)
    return pl.DataFrame({"resident": resident[order], "key": key[order], "value": value[order]})


def cache() -> Path:
    """Where the peers' environments stay."""
    named = os.environ.get("DATASOV_BENCH_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datasov-bench")


def run_process(command: Sequence[str | Path], seconds: float, env: Mapping[str, str] | None = None) -> str:
    """Its standard output.

    Raises:
        SkippedError: it failed, or took longer; then all that it started is ended too.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise SkippedError(f"it took more than {seconds:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise SkippedError(last_words(err) or f"it ended with status {process.returncode}")
    return out


def last_words(text: str) -> str:
    """The last error that a program told of, without addresses, in at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR:")] or lines
    return re.sub(r"\w+://\S+", "(address)", told[-1])[:200] if told else ""


def environment(peer: Peer, seconds: float) -> Path:
    """The Python of a peer's own environment; made where it is not there yet, whole or not at all.

    Raises:
        SkippedError: it is not there and cannot be made in that time.
    """
    if not peer.pins:
        return Path(sys.executable)
    made_of = hashlib.sha256("\n".join((platform.python_version(), *peer.pins)).encode()).hexdigest()[:12]
    home = cache() / f"{peer.module}-{made_of}"
    python = home / "bin" / "python"
    if python.exists():
        return python
    if os.environ.get("DATASOV_BENCH_INSTALL") == "0":
        raise SkippedError("it is not installed, and DATASOV_BENCH_INSTALL=0 says not to")
    if seconds < 1:
        raise SkippedError("not installed: the time for installing was over")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=home.parent))
    except OSError as error:
        raise SkippedError(f"not installed: {error.strerror} (DATASOV_BENCH_CACHE names another folder)") from None
    try:
        venv.create(making, symlinks=True, with_pip=False)
        pip = [sys.executable, "-m", "pip", "--python", str(making / "bin" / "python"), "install", "-q"]
        options = ["--no-compile", "--prefer-binary", "--no-input", "--retries", "1", "--timeout", "10"]
        run_process([*pip, *options, *peer.pins], seconds)
        making.rename(home)
    except SkippedError as error:
        raise SkippedError(f"not installed: {error}") from None
    except OSError as error:
        if not python.exists():  # somebody else may have made it meanwhile
            raise SkippedError(f"not installed: {error.strerror}") from None
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return python


def figures(peer: Peer, python: Path, table: Path, runs: int, seconds: float) -> dict[str, object]:
    """What the peer's process says of itself.

    Raises:
        SkippedError: it failed, took longer, or counted other rows than those in the file.
    """
    own = bool(peer.pins)
    env = {k: v for k, v in os.environ.items() if not (own and k.startswith("PYTHON"))}
    command: list[str | Path] = [
        python,
        *(["-s"] if own else []),
        "-m",
        f"benches._peers.{peer.module}",
        table,
        str(runs),
    ]
    try:
        out = run_process(command, seconds, env)
        found: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    except SkippedError as error:
        raise SkippedError(f"it did not run: {error}") from None
    except (ValueError, IndexError):
        raise SkippedError("it did not run: its last line is no JSON") from None
    frame = pl.read_parquet(table)
    key, value = (frame[name].to_numpy() for name in ("key", "value"))
    exact = [np.bincount(key, weights=w, minlength=KEYS).tolist() for w in (None, value)]
    if found.pop("_raw") != exact:
        raise SkippedError("its raw totals are not those of the rows that it was given")
    return found


def made(peers: Sequence[Peer], size: str) -> list[Path | str]:
    """The Python of each peer, or why there is none; two are installed at a time, all of them before any runs."""
    each, together = INSTALL_SECONDS[size]
    until = time.monotonic() + together

    def one(peer: Peer) -> Path | str:
        try:
            return environment(peer, min(each, until - time.monotonic()))
        except SkippedError as error:
            return str(error)

    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(one, peers))


def measured(peer: Peer, python: Path | str, table: Path, size: str) -> dict[str, object]:
    """One entry of `systems`."""
    try:
        if isinstance(python, str):
            raise SkippedError(python)
        return {"name": peer.name, **figures(peer, python, table, RUNS[size], RUN_SECONDS[size])}
    except SkippedError as error:
        return {"name": peer.name, "skipped": str(error)}


def run(size: str, rows: int | None = None) -> dict[str, object]:
    """The figures; `size` is "small" (50,000 rows) or "full" (1M of 100,000 residents), unless `rows` says else."""
    frame = simulated(rows or (50_000 if size == "small" else 1_000_000))
    pythons = made(PEERS, size)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "rows.parquet"
        frame.write_parquet(table)
        systems = [measured(peer, python, table, size) for peer, python in zip(PEERS, pythons, strict=True)]
    return {
        "rows": frame.height,
        "residents": frame["resident"].n_unique(),
        "keys": KEYS,
        "bound_keys": KEYS_A_RESIDENT,
        "bound_rows": ROWS_A_KEY,
        "clip": [LOW, HIGH],
        "epsilon": EPSILON,
        "runs": RUNS[size],
        "l1_error_of": "noised counts against the counts under the system's own bounds, a cell",
        "systems": systems,
    }
