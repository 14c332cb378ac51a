"""Devices that part, put, compact, change keys, erase and merge in any order: no row is lost or doubled, none that was
erased comes back, and in the end all agree."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import datasov as ds
from datasov.errors import StoreError
from datasov.model import frames
from datasov.vault import Vault, codec, session
from datasov.vault import vault as vault_module
from tests.vaults import KEY

V1 = ds.Schema("t", domain="mobility", columns={"n": ds.Integer(0, 200)})
V2 = ds.Schema("t", domain="mobility", columns={"n": ds.Integer(0, 10**6), "x": ds.Boolean(nullable=True)})
OTHER = ds.Schema("o", domain="energy", columns={"n": ds.Integer(0, 10**6)})
ME = ds.Schema("me", domain="health", kind="attributes", columns={"n": ds.Integer(0, 10**6)})
DEVICES = st.integers(0, 2)


def newest(mine: Any, theirs: Any) -> dict[str, bytes]:
    return {**mine, **{k: max(v, mine.get(k, b"")) for k, v in theirs.items()}}


class Devices(RuleBasedStateMachine):
    """Up to three devices, and beside each what it should hold: of each device, a beginning of its rows."""

    @initialize()
    def make(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session, "FOLD_RECORDS", 6)
        self.patch.setattr(session, "FOLD_LOGS", 2)
        self.patch.setattr(vault_module, "LARGE_ROWS", 4)
        self.patch.setattr(codec, "SMALL_ROWS", 8)
        self.patch.setattr("datasov.vault.segment.MIN_ROWS", 12)
        self.patch.setattr("datasov.vault.segment.MAX_CELLS", 1)
        self.folder = tempfile.TemporaryDirectory()
        self.serial = 0
        self.vaults = [Vault.create(self.path(0), device_key=KEY)]
        self.keys, self.erased = [KEY], [0]
        self.rows: list[dict[tuple[str, int], list[int]]] = [{}]
        self.me: list[int | None] = [None]
        self.evolved = [False]
        self.known = [set[str]()]
        self.last: dict[int, list[int]] = {}

    def path(self, at: int) -> Path:
        return Path(self.folder.name) / str(at)

    def put_rows(self, at: int, schema: ds.Schema, count: int) -> None:
        numbers = range(self.serial, self.serial + count)
        self.serial += count
        self.vaults[at].put([(schema, frames.encode(schema, [{"n": n} for n in numbers]))])
        self.rows[at].setdefault((schema.name, at), []).extend(numbers)
        self.known[at].add(schema.name)

    @rule(at=DEVICES, count=st.integers(0, 7))
    def put(self, at: int, count: int) -> None:
        at %= len(self.vaults)
        if self.serial + count > 200 and not self.evolved[at]:
            self.evolve(at)
        self.put_rows(at, V2 if self.evolved[at] else V1, count)

    @rule(at=DEVICES, count=st.integers(1, 7))
    def put_other(self, at: int, count: int) -> None:
        self.put_rows(at % len(self.vaults), OTHER, count)

    @rule(at=DEVICES)
    def be(self, at: int) -> None:
        at %= len(self.vaults)
        self.serial += 1
        self.vaults[at].put([(ME, frames.encode(ME, [{"n": self.serial}]))])
        self.me[at] = self.serial
        self.known[at].add("me")

    @rule(at=DEVICES)
    def evolve(self, at: int) -> None:
        at %= len(self.vaults)
        if "t" not in self.known[at]:
            self.put_rows(at, V1, 0)
        self.vaults[at].evolve(V2, {})
        self.evolved[at] = True

    @rule(at=DEVICES)
    def compact(self, at: int) -> None:
        self.vaults[at % len(self.vaults)].compact()

    @rule(at=DEVICES, tidy=st.booleans())
    def reopen(self, at: int, tidy: bool) -> None:
        at %= len(self.vaults)
        if tidy:
            self.vaults[at].close()
        else:
            self.vaults[at]._lock.release()  # type: ignore[union-attr]
        self.vaults[at] = Vault.open(self.path(at), device_key=self.keys[at])

    @rule(at=DEVICES)
    def rotate(self, at: int) -> None:
        at %= len(self.vaults)
        self.keys[at] = secrets.token_bytes(32)
        self.vaults[at].keys.rotate(device_key=self.keys[at])

    @rule(at=DEVICES)
    def erase(self, at: int) -> None:
        at %= len(self.vaults)
        self.keys[at] = secrets.token_bytes(32)
        self.vaults[at].erase_domain("energy", device_key=self.keys[at])
        self.rows[at] = {key: rows for key, rows in self.rows[at].items() if key[0] != "o"}
        self.known[at].discard("o")
        self.erased[at] += 1

    @precondition(lambda self: len(self.vaults) < 3)
    @rule(source=DEVICES)
    def enrol(self, source: int) -> None:
        source, at = source % len(self.vaults), len(self.vaults)
        self.vaults[source].enrol(self.path(at), device_key=KEY)
        self.keys.append(KEY)
        self.erased.append(self.erased[source])
        self.vaults.append(Vault.open(self.path(at), device_key=KEY))
        self.rows.append({k: list(v) for k, v in self.rows[source].items()})
        self.me.append(self.me[source])
        self.evolved.append(self.evolved[source])
        self.known.append(set(self.known[source]))

    @precondition(lambda self: len(self.vaults) > 1)
    @rule(into=DEVICES, other=DEVICES)
    def merge(self, into: int, other: int) -> None:
        into, other = into % len(self.vaults), other % len(self.vaults)
        if into == other:
            return
        before = self.state(other)
        if self.erased[into] != self.erased[other] and "o" in self.known[other]:
            held = self.state(into)
            with pytest.raises(StoreError, match="'energy' was erased"):
                self.vaults[into].merge(self.vaults[other], newest)
            assert self.state(into) == held
            return
        self.vaults[into].merge(self.vaults[other], newest)
        assert self.state(other) == before, "the other one is only read"
        for key, theirs in self.rows[other].items():
            mine = self.rows[into].get(key, [])
            assert theirs[: len(mine)] == mine[: len(theirs)]
            self.rows[into][key] = max(mine, theirs, key=len)[:]
        ages = [age for age in (self.me[into], self.me[other]) if age is not None]
        self.me[into] = max(ages, default=None)
        self.evolved[into] |= self.evolved[other]
        self.known[into] |= self.known[other]
        counter = self.vaults[into]._session.manifest.counter
        assert not self.vaults[into].merge(self.vaults[other], newest), "again changes nothing"
        assert self.vaults[into]._session.manifest.counter == counter

    def state(self, at: int) -> dict[str, list[Any]]:
        vault = self.vaults[at]
        return {name: vault.scan(name)["n"].to_list() for name in vault.tables()}

    @invariant()
    def right(self) -> None:
        for at, vault in enumerate(self.vaults):
            held = self.state(at)
            assert held.keys() == self.known[at]
            assert held.get("me", []) == ([] if self.me[at] is None else [self.me[at]])
            for name in ("t", "o"):
                expected = {device: rows for (table, device), rows in self.rows[at].items() if table == name}
                assert sorted(held.get(name, [])) == sorted(n for rows in expected.values() for n in rows)
                for rows in expected.values():
                    own = set(rows)
                    assert [n for n in held[name] if n in own] == rows
            if "t" in self.known[at]:
                assert vault.tables()["t"] == (V2 if self.evolved[at] else V1)

    def teardown(self) -> None:
        for at in range(len(self.vaults)):
            while self.erased[at] < max(self.erased):
                self.erase(at)
        for into in range(len(self.vaults)):
            for other in range(len(self.vaults)):
                self.merge(into, other)
        for into in range(len(self.vaults)):
            for other in range(len(self.vaults)):
                self.merge(into, other)
            self.vaults[into].compact()
        self.right()
        assert all(self.state(at) == self.state(0) for at in range(len(self.vaults))), "the same rows in the same order"
        for vault in self.vaults:
            vault.close()
        self.folder.cleanup()
        self.patch.undo()


Devices.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestDevices = Devices.TestCase
