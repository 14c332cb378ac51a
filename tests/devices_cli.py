"""Commands of a city whose devices answer, as a script calls them: in this process, with a clock that a test moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import datasov as ds
from datasov.cli import main
from datasov.commands import collecting
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.servers import IDS

Run = Callable[..., str]
KEY = bytes(range(32))
OPENED = ("--device-key-file", "key")
QUESTION = (
    "SELECT district, COUNT(*) FROM trips GROUP BY district", "--table", "trips.json", "--rows", "1", "--keys", "1",
    "--purpose", PURPOSE,
)  # fmt: skip
TWO = f"two-server={IDS[0]},{IDS[1]}"
PURE, RHO = ("--loss", "epsilon=2"), ("--loss", "rho=0.05")


def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clock: Clock) -> Run:
    """Run a command in this process; what it printed, once its exit code is the one expected."""
    monkeypatch.chdir(tmp_path)
    for opener in (ds.City.open, ds.Resident.open):
        monkeypatch.setitem(opener.__func__.__kwdefaults__, "clock", clock)
    monkeypatch.setattr(collecting, "time", SimpleNamespace(time=clock))
    Path("key").write_text(KEY.hex() + "\n")
    Path("trips.json").write_text(json.dumps(TRIPS.document()))

    def call(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code, capsys.readouterr()
        printed = capsys.readouterr()
        return printed.out + printed.err

    return call


def found(run: Run, *parts: str, budget: str = "rho=1", more: tuple[str, ...] = ()) -> str:
    """The id of a new city under these trusts, whose signed trust is in a file."""
    given = [option for part in parts for option in ("--trust", part)]
    identity = run("city", "found", "lake.city", "--budget", budget, "--purpose", PURPOSE, *given, *more).strip()
    run("city", "trust", "lake.city", "lake.trust")
    return identity


def person(name: str, clock: Clock, *districts: str) -> None:
    with ds.Resident.create(name, device_key=KEY, clock=clock) as who:
        who.put(TRIPS, [{"district": d, "km": 7} for d in districts])


def grant(run: Run, name: str, city: str, *more: str, loss: str = "rho=0.5", code: int = 0) -> str:
    return run(
        "consent", "grant", name, "trips", "--city", city, "--purpose", PURPOSE, "--loss", loss, "--until",
        "2999-01-01", "--yes", *OPENED, *more, code=code,
    )  # fmt: skip


def answer(run: Run, name: str, *more: str, code: int = 0, task: str = "task") -> str:
    return run("consent", "answer", name, task, "--wait", "0.01", *OPENED, *more, code=code)


def collect(run: Run, *more: str, code: int = 0, task: str = "task") -> str:
    return run("city", "collect", "lake.city", task, *QUESTION, *more, code=code)


def asked(run: Run, *more: str, code: int = 0) -> str:
    return run("city", "ask", "lake.city", *QUESTION, "--form", "csv", *more, code=code)


def counts(printed: str) -> list[float]:
    return pl.read_csv(printed.partition("trusted")[0].encode())["count"].to_list()
