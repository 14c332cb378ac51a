"""Claim: a series that is killed between two steps, or raced, counts nobody twice, charges once, has one answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import datasov as ds
from datasov.kernel.series import _counted, compile_series
from datasov.model.plan import Request
from tests.adversary.following import COUNTED, LOSS, SERIES, follow, found, now
from tests.adversary.points import at_every_point
from tests.adversary.test_races import in_threads
from tests.helpers import PURPOSE
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures("few_status_lists")


def check(city: ds.City) -> None:
    """Every step stands once, what is counted is exact, and nobody paid for more than their three rows."""
    request = Request(compile_series(SERIES), LOSS, PURPOSE, city.trust, 0, series=SERIES)
    stream = "accounts/series/" + request.key.hex()
    assert [_counted(city._ledger, stream, s)[0].tolist() for s in range(4)] == COUNTED
    assert city._store.length(stream) == 4
    (partition,) = city._registry.refresh()
    assert city._store.length("accounts/" + partition.name) == 4
    spent = city._ledger.spent(partition.name, 6)[0]
    assert all(LOSS.nano - 8 <= s <= LOSS.nano for s in spent), spent
    entries = [json.loads(e) for e in city._store.read("ledger")]
    stands = [e["key"] for e in entries if e["op"] == "stands"]
    assert len(stands) == len(set(stands)) == 5
    assert city._store.length("releases") == 5


@pytest.mark.parametrize("what", [pytest.param("append", marks=pytest.mark.campaign), "fsync", "replace"])
def test_a_series_that_dies_between_every_two_steps(tmp_path, what):
    def run(copy: Path, point: str) -> int:
        died = subprocess.run(
            [sys.executable, "-m", "tests.adversary.following", str(copy), f"{what}:{point}"],
            cwd=ROOT, capture_output=True, text=True, env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )  # fmt: skip
        assert died.returncode in (0, 9), died.stderr
        with ds.City.open(copy, clock=now) as city:
            reserved = round((city.budget.nano - city.remaining.nano) / LOSS.nano)
            answer = follow(city)
            assert not died.stdout or died.stdout.strip() == answer
            assert follow(city) == answer
            check(city)
            again = round((city.budget.nano - city.remaining.nano) / LOSS.nano)
            assert again in (1, 2)
            assert again >= reserved
        return died.returncode

    at_every_point(found(tmp_path), 40, run)


def test_threads_and_cities_that_race_have_one_answer(tmp_path):
    path = found(tmp_path)
    cities = [ds.City.open(path, clock=now) for _ in range(4)]
    try:
        answers = in_threads(16, lambda i: follow(cities[i % 4]))
        assert len(set(answers)) == 1, answers
        for city in cities:
            check(city)
    finally:
        for city in cities:
            city.close()


def test_what_is_counted_lies_sealed(tmp_path):
    with ds.City.open(found(tmp_path), clock=now) as city:
        follow(city)
        request = Request(compile_series(SERIES), LOSS, PURPOSE, city.trust, 0, series=SERIES)
        stream = "accounts/series/" + request.key.hex()
        sealed, opened = city._store.read(stream), city._ledger.store.read(stream)
        assert len({len(b) for b in sealed}) == 1, "the length of what is sealed tells of what is in it"
        for body, plain in zip(sealed, opened, strict=True):
            assert plain not in body
            assert zlib.decompress(plain)
            with pytest.raises(zlib.error):
                zlib.decompress(body[64:])
