"""Every state that a power failure may leave opens, with every row that was acknowledged and no put in part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datasov.vault import Vault, pack, session
from datasov.vault.host import Host
from tests import vaults
from tests.crashes import Trace, put_down
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips


class Life:
    """A vault and what is done to it, one operation after the other."""

    def __init__(self, path: Path) -> None:
        self.path, self.vault = path, Vault.open(path, device_key=KEY)

    def put(self, turn: int) -> None:
        self.vault.put([(TRIPS, trips(turn, turn)), (METER, meter(turn)), (PERSON, person(turn))])

    def large(self, turn: int) -> None:
        with vaults.large_from(1):
            self.vault.put([(TRIPS, trips(turn, turn + 1)), (METER, meter(turn))])

    def note(self, turn: int) -> None:
        self.vault.set_state({"note": str(turn).encode()})

    def compact(self, turn: int) -> None:
        self.vault.compact()

    def reopen(self, turn: int) -> None:
        self.vault.close()
        self.vault = Vault.open(self.path, device_key=KEY)

    def die(self, turn: int) -> None:
        """As a process does: the lock is let go, and nothing is sealed."""
        assert self.vault._lock is not None
        self.vault._lock.release()
        self.vault = Vault.open(self.path, device_key=KEY)


SHORT = ("put", "note", "large", "put", "compact", "reopen", "put")
LONG = (*SHORT, "put", "put", "put", "die", "put", "large", "note", "reopen", "put", "put", "put", "compact", "compact")
LONG = (*LONG, "put", "die", "put", "die", "reopen", "large", "put", "reopen", "compact", "die", "put")


@pytest.mark.parametrize("steps", [SHORT, pytest.param(LONG, marks=pytest.mark.campaign)], ids=["short", "long"])
def test_every_state_that_a_power_failure_may_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[str, ...]
) -> None:
    monkeypatch.setattr(session, "FOLD_RECORDS", 3)
    path = tmp_path / "v"
    vaults.varied(path)
    trace = Trace(path)
    with trace.recording():
        life = Life(path)
        expected = [vaults.held(life.vault)]
        for turn, step in enumerate(steps):
            operation: Callable[[int], None] = getattr(life, step)
            operation(turn)
            trace.mark()
            expected.append(vaults.held(life.vault))
    life.vault.close()
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    count = 0
    for count, (returned, files) in enumerate(trace.states(), 1):
        found = tmp_path / f"s{count}"
        put_down(files, found, ("manifest", "seg", "log"))
        held = vaults.contents(found)
        assert held in expected[returned : returned + 2], (returned, steps)
        if count % 5 == 0:
            with Vault.open(found, device_key=KEY) as vault:
                vault.put([(TRIPS, trips(49))])
                vault.compact()
                held["trips"] = [*held["trips"], trips(49).row(0)]  # type: ignore[misc]
            assert vaults.contents(found) == held
        shutil.rmtree(found)
    assert count > 20 * len(steps)


def _hosted(host: Host) -> list[object]:
    return [
        len(host),
        *([row for frame in host.collect(table) for row in frame.rows()] for table in ("trips", "person")),
    ]


def test_every_state_of_a_host_that_a_power_failure_may_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h"
    with Host.create(path, device_key=KEY) as host:
        host.admit([[(TRIPS, trips(1)), (PERSON, person(1))]])
    monkeypatch.setattr(pack, "FULL", 1)
    trace = Trace(path)
    with trace.recording(), Host.open(path, device_key=KEY) as host:
        first = host.tenants()[0]
        expected = [_hosted(host)]
        for operation in (
            lambda: host.admit([[(TRIPS, trips(2))], [(PERSON, person(2))]]),
            lambda: host.put([(first, [(TRIPS, trips(3)), (PERSON, person(3))])]),
            lambda: host.remove([first]),
        ):
            operation()
            trace.mark()
            expected.append(_hosted(host))
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    count = 0
    for count, (returned, files) in enumerate(trace.states(), 1):
        found = tmp_path / f"s{count}"
        put_down(files, found, ("packs", "index/manifest", "index/seg", "index/log"))
        with Host.open(found, device_key=KEY, write=count % 5 == 0) as host:
            held = _hosted(host)
            assert held in expected[returned : returned + 2]
            if count % 5 == 0:
                host.admit([[(PERSON, person(9))]])
                assert _hosted(host)[0] == held[0] + 1  # type: ignore[operator]
        shutil.rmtree(found)
    assert count > 50
