"""Histories of key changes among puts, erasures, crashes and compactions: what should open opens, nothing else does."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from datasov.errors import DecryptionError, InvalidDataError
from datasov.vault import Anchor, Asked, Guardian, Vault, new_recovery_key
from tests import faults, vaults
from tests.vaults import METER, PERSON, TRIPS, meter, person, trips

AUNT = Guardian(bytes(32))
DOMAINS = {"trips": "mobility", "meter": "energy", "person": "administration"}


def _secret(kind: str) -> dict[str, object]:
    return {
        "device key": lambda: {"device_key": secrets.token_bytes(32)},
        "passphrase": lambda: {"passphrase": secrets.token_hex(8), "device_secret": secrets.token_bytes(32)},
        "recovery key": lambda: {"recovery_key": new_recovery_key()},
        "guardian": dict,
    }[kind]()


class Keychains(RuleBasedStateMachine):
    """A vault beside a model: which secrets open it, and which rows it holds."""

    @initialize()
    def make(self) -> None:
        self.stack = vaults.cheap_argon2(), faults.unflushed()
        for context in self.stack:
            context.__enter__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "v"
        first = _secret("device key")
        self.vault = Vault.create(self.path, **first)  # type: ignore[arg-type]
        (slot,) = self.vault.keys.slots()
        self.good: dict[str, tuple[str, dict[str, object]]] = {slot.id: ("device key", first)}
        self.gone: list[dict[str, object]] = []
        self.rows: dict[str, list[tuple[object, ...]]] = {}
        self.anchors: list[Anchor] = []

    def _way(self, slot: str) -> dict[str, object]:
        kind, given = self.good[slot]
        if kind != "guardian":
            return given
        asked = Asked.of(self.path, AUNT.public)
        return {"guardian": asked.receive(AUNT.answer(asked.request, code=asked.code))}

    @rule(km=st.integers(0, 50), wh=st.none() | st.integers(0, 99), age=st.none() | st.integers(0, 120))
    def put(self, km: int, wh: int | None, age: int | None) -> None:
        items = [(TRIPS, trips(km))]
        items += [(METER, meter(wh))] if wh is not None else []
        items += [(PERSON, person(age))] if age is not None else []
        self.vault.put(items)
        for schema, frame in items:
            kept = self.rows.get(schema.name, []) if schema.kind == "events" else []
            self.rows[schema.name] = kept + frame.rows()

    @rule(kind=st.sampled_from(["device key", "passphrase", "recovery key", "guardian"]))
    def add(self, kind: str) -> None:
        before, given = {slot.id for slot in self.vault.keys.slots()}, _secret(kind)
        if len(before) >= 5:
            return
        if kind == "device key":
            self.vault.keys.add_device_key(given["device_key"])  # type: ignore[arg-type]
        elif kind == "passphrase":
            self.vault.keys.add_passphrase(**given)  # type: ignore[arg-type]
        elif kind == "recovery key":
            self.vault.keys.add_recovery(given["recovery_key"])  # type: ignore[arg-type]
        else:
            self.vault.keys.add_guardian(AUNT.public)
        (new,) = {slot.id for slot in self.vault.keys.slots()} - before
        self.good[new] = (kind, given)

    @rule(which=st.integers(0, 4))
    def remove(self, which: int) -> None:
        slot = list(self.good)[which % len(self.good)]
        rest = [kind for other, (kind, _) in self.good.items() if other != slot]
        if set(rest) <= {"guardian"}:
            with pytest.raises(InvalidDataError, match="opens alone"):
                self.vault.keys.remove(slot)
            return
        self.gone.append(self._way(slot))
        self.vault.keys.remove(slot)
        del self.good[slot]

    @rule(domain=st.none() | st.sampled_from(sorted(DOMAINS.values())))
    def replace(self, domain: str | None) -> None:
        """A rotation, or an erasure: one slot of each kind stays."""
        new, drop = dict[str, object](), list[str]()
        kinds = set[str]()
        for slot, (kind, _) in self.good.items():
            self.gone.append(self._way(slot))
            if kind != "guardian" and kind in kinds:
                drop.append(slot)
            kinds.add(kind)
        for kind in kinds:
            new |= _secret(kind)
        if domain is None:
            self.vault.keys.rotate(**new, drop=drop)  # type: ignore[arg-type]
        else:
            self.vault.erase_domain(domain, **new, drop=drop)  # type: ignore[arg-type]
            self.rows = {name: rows for name, rows in self.rows.items() if DOMAINS[name] != domain}
        given = {"device key": ["device_key"], "passphrase": ["passphrase", "device_secret"],
                 "recovery key": ["recovery_key"], "guardian": []}  # fmt: skip
        self.good = {
            slot.id: (slot.kind, {name: new[name] for name in given[slot.kind]}) for slot in self.vault.keys.slots()
        }

    @rule()
    def anchor(self) -> None:
        self.anchors = [*self.anchors[-2:], self.vault.anchor("friend")]

    @rule()
    def compact(self) -> None:
        self.vault.compact()

    @rule(which=st.integers(0, 4), crash=st.booleans())
    def reopen(self, which: int, crash: bool) -> None:
        if crash:
            assert self.vault._lock is not None
            self.vault._lock.release()
        else:
            self.vault.close()
        slot = list(self.good)[which % len(self.good)]
        self.vault = Vault.open(self.path, anchor=self.anchors, **self._way(slot))  # type: ignore[arg-type]

    @invariant()
    def opens_by_what_is_good_and_by_nothing_else(self) -> None:
        assert {slot.id: slot.kind for slot in self.vault.keys.slots()} == {
            slot: kind for slot, (kind, _) in self.good.items()
        }
        assert {name: self.vault.scan(name).rows() for name in self.vault.tables()} == self.rows
        for slot in self.good:
            with Vault.open(self.path, write=False, anchor=self.anchors, **self._way(slot)) as reader:  # type: ignore[arg-type]
                assert {name: reader.scan(name).rows() for name in reader.tables()} == self.rows
        for given in self.gone[-6:]:
            with pytest.raises(DecryptionError):
                Vault.open(self.path, write=False, **given)  # type: ignore[arg-type]

    def teardown(self) -> None:
        self.vault.close()
        self.folder.cleanup()
        for context in self.stack[::-1]:
            context.__exit__(None, None, None)


Keychains.TestCase.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
TestKeychains = Keychains.TestCase
