"""A write that takes a part and then fails: nothing of the operation is kept, and everything before it is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasov.errors import StoreError
from datasov.vault import Vault
from tests import vaults
from tests.vaults import KEY, METER, TRIPS, meter, trips


class Full:
    """`os.write` until the disk is full: so many bytes go in, and then none."""

    def __init__(self, room: int) -> None:
        self.room, self.failed, self._write = room, False, os.write

    def __call__(self, fd: int, data: bytes | memoryview) -> int:
        if not self.room:
            self.failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._write(fd, bytes(data)[: self.room])
        self.room -= taken
        return taken


def _large(vault: Vault) -> None:
    with vaults.large_from(1):
        vault.put([(TRIPS, trips(8, 9)), (METER, meter(8))])


OPERATIONS: dict[str, Callable[[Vault], None]] = {
    "put": lambda vault: vault.put([(TRIPS, trips(7)), (METER, meter(7))]),
    "large put": _large,
    "state": lambda vault: vault.set_state({"note": b"new"}),
    "compact": lambda vault: vault.compact(),
    "close": lambda vault: vault.close(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_disk_that_fills_up_within_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    vaults.varied(tmp_path / "base")
    room, failures, full = 0, 0, Full(0)
    while True:
        path = tmp_path / f"v{room}"
        shutil.copytree(tmp_path / "base", path)
        vault = Vault.open(path, device_key=KEY)
        vault.put([(TRIPS, trips(6))])
        before, raised, full = vaults.held(vault), False, Full(room)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            try:
                OPERATIONS[name](vault)
            except StoreError:
                raised = True
        if name != "close":
            live = vaults.held(vault)
            assert not raised or live == before
            vault.close()
            assert vaults.contents(path) == live
        else:
            assert vaults.contents(path) == before
        with Vault.open(path, device_key=KEY) as again:
            again.put([(TRIPS, trips(49))])
            assert again.scan("trips").rows()[-1] == trips(49).row(0)
        shutil.rmtree(path)
        failures += raised
        if not full.failed:
            break
        room += 211
    assert not raised
    assert failures > 3
