"""Attack: kill -9, at random moments, a device that changes its vault's keys all the time.

Claim: the device opens the vault with what it kept, every acknowledged row is there, and no anchor alarms for nothing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasov.vault import KeyFile, Vault
from tests import vaults
from tests.vaults import TRIPS, trips

WRITER = """
import sys
from datasov.vault import KeyFile, Vault
from tests import vaults
from tests.vaults import TRIPS, trips

path, key, start = sys.argv[1], KeyFile(sys.argv[2]), int(sys.argv[3])
print("open", flush=True)
for turn in range(start, 100_000):
    with Vault.open(path, device=key) as vault:
        vault.put([(TRIPS, trips(turn % 50))])
        print(turn, flush=True)
        if turn % 3 == 0:
            vault.keys.rotate()
        elif turn % 3 == 1:
            vault.erase_domain("energy")
        else:
            vault.keys.add_device_key(label="other")
            vault.keys.remove(vault.keys.slots()[-1].id)
"""


def _rounds(folder: Path, rounds: int, seed: int) -> None:
    chance, done, path, key = random.Random(seed), 0, folder / "v", KeyFile(folder / "device.key")
    with Vault.create(path, device=key) as vault:
        vault.put([(TRIPS, trips())])
    for _ in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(folder / "device.key"), str(done)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        time.sleep(chance.random() * 0.3)
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split("\n")
        assert writer.wait() == -signal.SIGKILL
        acknowledged = max([done, *(int(line) + 1 for line in lines[:-1])])
        Vault.open(path, device=key, write=False).close()
        with Vault.open(path, device=key) as vault:
            found = vault.scan("trips")["km"].to_list()
            assert found == [turn % 50 for turn in range(len(found))]
            assert acknowledged <= len(found) <= acknowledged + 1
            for slot in vault.keys.slots():
                if slot.label == "other":
                    vault.keys.remove(slot.id)
            assert len(vault.keys.slots()) == 1
        done = len(found)
    assert done > rounds // 2


def test_a_few_rounds_of_changing_keys(tmp_path: Path) -> None:
    with vaults.cheap_argon2():
        _rounds(tmp_path, 4, seed=1)


@pytest.mark.campaign
def test_many_rounds_of_changing_keys(tmp_path: Path) -> None:
    for seed in range(5):
        (tmp_path / str(seed)).mkdir()
        _rounds(tmp_path / str(seed), 60, seed=seed)
