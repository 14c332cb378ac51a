"""kill -9 while a writer puts rows: what it acknowledged is there, and every put is whole."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasov.vault import Vault
from tests import vaults
from tests.vaults import KEY

WRITER = """
import sys
from datasov.vault import Vault, session, vault as module
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips
path, start = sys.argv[1], int(sys.argv[2])
session.FOLD_RECORDS, session.FOLD_LOGS, module.LARGE_ROWS = 23, 3, 3
with Vault.open(path, device_key=KEY) as vault:
    print("open", flush=True)
    for turn in range(start, start + 100_000):
        rows = trips(*[turn % 50] * (1 + turn % 5))
        vault.put([(TRIPS, rows), (METER, meter(turn)), (PERSON, person(turn % 120))])
        if turn >= int(vault.state("note") or 0) + 11:
            vault.set_state({"note": str(turn).encode()})
        if turn % 31 == 0:
            vault.compact()
        print(turn, flush=True)
"""


def _check(path: Path, acknowledged: int, noted: int) -> tuple[int, int]:
    """The whole puts in the vault, once they are known to be the first ones, with none in part; and the note.

    `noted` is the least that the note may be: a turn is printed after the note that it is due was kept, but a writer
    killed between the put and the note leaves one turn more without it.
    """
    with Vault.open(path, device_key=KEY, write=False) as vault:
        meters = vault.scan("meter")["wh"].to_list()
        assert meters == list(range(len(meters)))
        expected = [turn % 50 for turn in meters for _ in range(1 + turn % 5)]
        assert vault.scan("trips")["km"].to_list() == expected
        assert vault.scan("person")["age"].to_list() == [(len(meters) - 1) % 120]
        note = int(vault.state("note") or b"0")
    assert acknowledged <= len(meters) <= acknowledged + 1
    assert noted <= note <= len(meters)
    return len(meters), note


def _rounds(path: Path, rounds: int, seed: int) -> None:
    chance, done, note = random.Random(seed), 0, 0
    Vault.create(path, device_key=KEY).close()
    with Vault.open(path, device_key=KEY) as vault:
        vault.put(
            [(schema, frame) for schema, frame in ((vaults.TRIPS, vaults.trips()), (vaults.METER, vaults.meter()))]
        )
    killed = 0
    while killed < rounds:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(done)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        first = writer.stdout.readline() if killed % 2 else ""
        time.sleep(chance.random() * 0.15)
        writer.send_signal(signal.SIGKILL)
        lines = (first + writer.stdout.read()).split("\n")
        assert writer.wait() == -signal.SIGKILL
        printed = [int(line) for line in lines[:-1]]
        acknowledged = max([done, *(turn + 1 for turn in printed)])
        if acknowledged or _begun(path):
            done, note = _check(path, acknowledged, max([note, *(turn - 10 for turn in printed)]))
        killed += 1
    assert done >= rounds // 2


def _begun(path: Path) -> bool:
    with Vault.open(path, device_key=KEY, write=False) as vault:
        return vault.scan("meter").height > 0


def test_a_few_rounds(tmp_path: Path) -> None:
    _rounds(tmp_path / "v", 6, seed=1)


@pytest.mark.campaign
def test_many_rounds(tmp_path: Path) -> None:
    for seed in range(10):
        _rounds(tmp_path / f"v{seed}", 100, seed=seed)
