"""Two servers end to end, and their error: see `benches/mpc.py`."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import datasov as ds
from datasov.aggregator import place
from datasov.aggregator.client import over_http
from datasov.aggregator.messages import open_share
from datasov.authority import credential
from datasov.crypto.kdf import hkdf
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import PeerError
from datasov.kernel.contribute import add
from datasov.kernel.ledger import Ledger
from datasov.kernel.noise import draw
from datasov.kernel.plan import compile
from datasov.mpc.local import Encoding, Tally, encoding
from datasov.mpc.report import make_reports
from datasov.mpc.task import Task
from datasov.resident import enrolling
from datasov.store.sqlite import SQLiteStore
from datasov.wire import cbor

NOW, LONG = 1_800_000_000, 3600
BATCH = 256
_SERVE = """
import sys
from pathlib import Path
from datasov import cli
from datasov.commands import aggregator
folder, city, clock = sys.argv[1:]
aggregator.time.time = lambda: float(Path(clock).read_text())
sys.exit(cli.main(["aggregator", "serve", folder, "--city", city]))
"""
_KEYS = SigningKey(bytes(32)), OpeningKey(bytes(range(32)))


def _schema(cells: int) -> ds.Schema:
    return ds.Schema("cells", domain="mobility", columns={"x": ds.Category([f"{n:04d}" for n in range(cells)])},
                     keys=[("x",)])  # fmt: skip


def _free() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextlib.contextmanager
def _serving(folder: Path, cells: int, tokens: bool) -> Iterator[tuple[Task, list[subprocess.Popen[bytes]]]]:
    """A task, taken by two aggregators that run as processes of their own."""
    city = ds.CityId("bench", _KEYS[0].public, _KEYS[1].public)
    ids = [
        place.make(folder / n, name=n, url=_free(), budget=ds.zcdp(rho=10), tokens=tokens) for n in ("leader", "helper")
    ]
    (folder / "clock").write_text(str(NOW))
    query = ds.query(_schema(cells)).keys("x").bound(rows=1, keys=1).count()
    task = Task(
        city=str(city), query=query, loss=ds.zcdp(rho="0.5"), purpose="bench", programme="", cohort=0, epoch=0,
        trust=ds.two_server(city=ids[0], council=ids[1]), opened=NOW, until=NOW + LONG, salt=secrets.token_bytes(16),
    )  # fmt: skip
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(folder / i.name), str(city), str(folder / "clock")], env=environment
        )
        for i in ids
    ]
    try:
        for _ in range(600):
            with contextlib.suppress(PeerError):
                over_http(ids[0], "tasks", task.signed(_KEYS[0]))
                break
            time.sleep(0.1)
        yield task, children
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def _status(child: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Processor seconds and the most resident bytes of a process so far; zeros where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        spent = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        text = Path(f"/proc/{child.pid}/status").read_text()
        peak = next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK"), peak
    return 0.0, 0


def _derive(number: int, info: bytes) -> bytes:
    return hkdf(number.to_bytes(32, "big"), salt=b"", info=info)


def _enrolled(folder: Path, task: Task, count: int) -> list[tuple[bytes, bytes]]:
    """Tokens of so many residents, who are put on both rolls and fetch them one by one."""
    city, found = ds.CityId.parse(task.city), []
    derived = [partial(_derive, n) for n in range(count)]
    people = [(str(n), credential.enrolment_key(derive, city).public) for n, derive in enumerate(derived)]
    for party in task.trust.aggregators:
        place.enrol(folder / party.name, task.city, people)
    for derive in derived:
        found.append(enrolling.tokens(derive, task, over_http).servers)
    return found


def with_tokens(reports: int) -> dict[str, object]:
    """The same where each report carries enrolment tokens, which residents fetched before."""
    found = end_to_end(reports, tokens=True)
    names = ("reports", "end_to_end_cpu_s", "leader_cpu_s", "helper_cpu_s", "fetching_ms_each", "issuing_ms_each")
    return {f"enrolled_{name}": found[name] for name in names}


def end_to_end(reports: int, cells: int = 16, *, tokens: bool = False) -> dict[str, object]:
    """From the first of so many reports, made before, to the release."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _serving(folder, cells, tokens) as (task, children):
            issuing, fetching = [_status(c)[0] for c in children], time.process_time()
            shown = _enrolled(folder, task, reports) if tokens else [(b"", b"")] * reports
            fetching = time.process_time() - fetching
            issuing = [_status(c)[0] - before for c, before in zip(children, issuing, strict=True)]
            rng, expected = np.random.default_rng(1), np.zeros(cells, dtype=np.int64)
            ready, began = folder / "ready", time.process_time()
            ready.mkdir()
            for at in range(0, reports, BATCH):
                chosen = rng.integers(0, cells, min(BATCH, reports - at))
                expected += np.bincount(chosen, minlength=cells)
                vectors = [[row] for row in np.eye(cells, dtype=np.int64)[chosen]]
                made = make_reports(task, vectors, shown[at : at + BATCH])
                (ready / f"{at:09d}").write_bytes(cbor.encode(made))
            made_s = time.process_time() - began
            before, mine, start = [_status(c)[0] for c in children], time.process_time(), time.perf_counter()
            for file in sorted(ready.iterdir()):
                over_http(task.trust.aggregators[0], "reports", file.read_bytes())
            (folder / "clock").write_text(str(NOW + LONG))
            shares = cbor.decode(over_http(task.trust.aggregators[0], "collect", task.id))
            found = [open_share(share, task, role, _KEYS[1]) for role, share in enumerate(shares)]
            values = task.fits[0].joined(found[0].shares[0], found[1].shares[0], found[0].reports)
            wall, uploading = time.perf_counter() - start, time.process_time() - mine
            after = [_status(c) for c in children]
            if found[0].reports != reports or np.abs(values - expected).max() > 60:
                raise RuntimeError("the bench's own reports were not counted: that is a fault")
    spent = [a[0] - b for a, b in zip(after, before, strict=True)]
    return {
        "reports": reports,
        "end_to_end_s": round(wall, 1),
        "end_to_end_cpu_s": round(sum(spent) + uploading, 1),
        "leader_cpu_s": round(spent[0], 1),
        "helper_cpu_s": round(spent[1], 1),
        "upload_cpu_s": round(uploading, 1),
        "devices_ms_each": round(made_s / reports * 1000, 3),
        "fetching_ms_each": round(fetching / reports * 1000, 3),
        "issuing_ms_each": round(sum(issuing) / 2 / reports * 1000, 3),
        "leader_peak_bytes": after[0][1],
        "helper_peak_bytes": after[1][1],
    }


def _local(how: Encoding, true: np.ndarray, generator: np.random.Generator) -> float:
    """The L1 error of devices' own noise, each resident in a cell: supports drawn from their law, two binomials."""
    residents = int(true.sum())
    supports = generator.binomial(true, how.own) + generator.binomial(residents - true, how.other)
    return float(np.abs(Tally(how, supports, residents).estimates() - true).sum())


def error_vs_central(sizes: Sequence[int], cells: int = 256, times: int = 20) -> list[dict[str, object]]:
    """The mean L1 error of a histogram under pure epsilon = 1, one resident added or removed, for so many residents.

    Under local trust epsilon holds between any two answers.
    """
    plan, loss = compile(ds.query(_schema(cells)).keys("x").bound(rows=1, keys=1).count()), ds.pure(epsilon=1)
    with tempfile.TemporaryDirectory() as name:
        store = SQLiteStore(Path(name) / "ledger.db", create=True)
        ledger = Ledger(store, ds.pure(epsilon=10**5))

        def noise() -> np.ndarray:
            return draw(add([], plan), plan, ledger.reserve(loss)).values[0]

        rows: list[dict[str, object]] = []
        how, generator = encoding(cells, loss), np.random.default_rng()
        for residents in sizes:
            true = np.bincount(np.arange(residents) % cells, minlength=cells)
            local = np.mean([_local(how, true, generator) for _ in range(times)])
            central = float(np.mean([np.abs(noise()).sum() for _ in range(times)]))
            both = float(np.mean([np.abs(noise() + noise()).sum() for _ in range(times)]))
            rows.append({
                "residents": residents, "central": round(central, 1), "two_servers": round(both, 1),
                "ratio": round(both / central, 3), "two_servers_share": round(both / residents, 6),
                "local": round(float(local), 1), "local_share": round(float(local) / residents, 6),
            })  # fmt: skip
        store.close()
    return rows
