"""Claim: a letter that was received survives a crash, and is taken up once, wherever the collection of it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import datasov as ds
from datasov.authority import letters
from tests.adversary.sending import HOUR, SIZE
from tests.audit import audit
from tests.helpers import NOW, TRIPS, Clock, consent_for, contribution, found_city, revocation
from tests.paths import ROOT
from tests.unit.test_letters import consented, live

ENVIRONMENT = {**os.environ, "POLARS_MAX_THREADS": "1"}


def test_a_letter_that_was_received_is_there_after_a_kill(tmp_path: Path) -> None:
    with found_city(tmp_path, Clock()) as city:
        found = [consented(city, n)[1] for n in range(60)]
    (tmp_path / "letters").write_bytes(b"".join(found))
    command = [sys.executable, "-m", "tests.adversary.sending", "receive", str(tmp_path / "lake.city")]
    with subprocess.Popen(
        [*command, str(tmp_path / "letters")], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(lines) == "ready\n"
        seen = [next(lines) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        seen += list(lines)
    received = len(seen)
    assert 20 <= received < 60, "killed too early or too late"
    with ds.City.open(tmp_path / "lake.city", clock=Clock(NOW + HOUR)) as city:
        taken = city.take_up()
        assert received <= taken.taken <= received + 1
        assert (taken.refused, live(city)) == (0, taken.taken)


def test_a_collection_that_dies_between_its_writes_is_taken_up(tmp_path: Path) -> None:
    dies_at_every(tmp_path, "append", "unlink")


@pytest.mark.campaign
def test_a_collection_that_dies_at_any_point_is_taken_up(tmp_path: Path) -> None:
    dies_at_every(tmp_path, "append", "fsync", "replace", "unlink")


def dies_at_every(tmp_path: Path, *kinds: str) -> None:
    clock = Clock()
    with found_city(tmp_path, clock) as city:
        stays = consent_for(city, TRIPS, "stays")
        city.admit(stays, contribution(city, stays, "stays", 1, TRIPS, [{"district": "N", "km": 1}]))
        goes = consent_for(city, TRIPS, "goes")
        city.admit(goes, contribution(city, goes, "goes", 1, TRIPS, [{"district": "N", "km": 1}]))
        for name in range(3):
            letter = consented(city, name)[1]
            assert len(letter) == SIZE
            city.receive(letter)
        city.receive(letters.seal_ending(revocation(goes, "goes"), city.id))
        city.receive(bytes(SIZE))
    command = [sys.executable, "-m", "tests.adversary.sending", "points", str(tmp_path / "lake.city"), *kinds]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    tried = [line.split() for line in done.stdout.splitlines()]
    assert {ended for _, ended in tried} == {"0", "9"}
    assert sum(ended == "9" for _, ended in tried) > 6
    for folder, _ in tried:
        with ds.City.open(tmp_path / folder / "lake.city", clock=Clock(NOW + HOUR)) as city:
            assert city.take_up().kept == 0
            assert live(city) == 4, folder
            assert city.take_up().taken == city.take_up().refused == 0
            audit(city)
