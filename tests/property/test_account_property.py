"""A resident's account of loss outlives everything that they, their devices and the city do.

In any order: put, grant, renew, have a guardian grant, contribute, revoke, end what the guardian may do, exhaust, erase
the domain, replace every key, enrol a second device, merge, compact, restart the city, let its erasure run. After every
step the city knows the resident at one place, has charged them no less than before and no more than the largest consent
that they or their guardian ever gave for the purpose; and no vault counts less than before as granted over all
controllers.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import datasov as ds
from datasov.authority.columns import Places
from datasov.authority.registry import partition_name
from datasov.errors import ConsentError, StoreError
from datasov.model.privacy import Loss
from datasov.pool.draft import Draft
from datasov.resident import granting as resident_module
from datasov.vault import Vault
from tests.helpers import NOW, TRIPS, Clock, few_lists

DAY = 86_400
PURPOSES = ["bus-planning", "health-report"]
UNIT = ds.zcdp(rho="0.01")
ROWS = [{"district": d, "km": 5} for d in "NNESW"]
DEVICES = st.integers(0, 1)


class Accounts(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("os.fsync", lambda _: None)
        few_lists(self.patch)
        self.folder, self.clock, self.asked = Path(tempfile.mkdtemp()), Clock(), 0
        self.city = self.opened_city(budget=ds.zcdp(rho=9), purposes=PURPOSES)
        self.other = ds.City.open(self.folder / "b.city", budget=ds.zcdp(rho=9), purposes=PURPOSES, clock=self.clock)
        self.keys = [bytes(32)]
        self.devices = [ds.Resident.create(self.path(0), device_key=bytes(32), clock=self.clock)]
        self.erased = [0]
        self.consents: list[list[ds.Consent]] = [[]]
        self.granted = [Loss(0)]
        self.largest = dict.fromkeys(PURPOSES, 0)
        self.charged = dict.fromkeys(PURPOSES, 0)
        self.guardian = ds.Resident.create(self.folder / "guardian.vault", device_key=bytes(32), clock=self.clock)
        self.delegated: bytes | None = None

    def opened_city(self, **given) -> ds.City:
        return ds.City.open(self.folder / "a.city", clock=self.clock, erase_within=20 * DAY, **given)

    def path(self, at: int) -> Path:
        return self.folder / f"{at}.vault"

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            for resident in (*self.devices, self.guardian):
                resident.close()
            self.city.close()
            self.other.close()
            shutil.rmtree(self.folder)
            self.patch.undo()

    # --- what the resident does

    @rule(at=DEVICES)
    def put(self, at):
        self.devices[at % len(self.devices)].put(TRIPS, ROWS)

    @rule(
        at=DEVICES, purpose=st.sampled_from(PURPOSES), units=st.integers(1, 6), days=st.sampled_from([1, 400]),
        columns=st.sampled_from([None, ["km"]]), send=st.booleans(),
    )  # fmt: skip
    def grant(self, at, purpose, units, days, columns, send):
        at %= len(self.devices)
        until = f"20{27 + days // 365}-0{1 + 1 * (days > 1)}-17"
        try:
            consent = self.devices[at].grant(
                self.city.id, TRIPS, purpose=purpose, loss=Loss(units * UNIT.nano), until=until, columns=columns
            )
        except ConsentError:
            assert self.clock.now > NOW + DAY, "a day that is over"
            return
        self.consents[at].append(consent)
        if send:
            self.send(at, consent)

    @rule(at=DEVICES, units=st.integers(1, 6))
    def grant_to_another_city(self, at, units):
        """Its own account there; the vault counts it too."""
        self.devices[at % len(self.devices)].grant(
            self.other.id, TRIPS, purpose=PURPOSES[0], loss=Loss(units * UNIT.nano), until="2040-01-01"
        )

    @rule(at=DEVICES, number=st.integers(0, 50))
    def contribute(self, at, number):
        at %= len(self.devices)
        if self.consents[at]:
            self.send(at, self.consents[at][number % len(self.consents[at])])

    def send(self, at: int, consent: ds.Consent) -> None:
        if "trips" not in self.devices[at].tables():
            self.put(at)
        try:
            self.city.admit(consent, self.devices[at].contribute(consent))
        except ConsentError:
            return
        purpose = consent.claims.purpose
        self.largest[purpose] = max(self.largest[purpose], consent.claims.loss.nano)

    @rule(at=DEVICES, number=st.integers(0, 50), deliver=st.booleans())
    def revoke(self, at, number, deliver):
        at %= len(self.devices)
        if not self.consents[at]:
            return
        revocation = self.devices[at].revoke(self.consents[at][number % len(self.consents[at])])
        if deliver:
            with contextlib.suppress(ConsentError):
                self.city.revoke(revocation)

    @precondition(lambda self: self.delegated is None)
    @rule(at=DEVICES)
    def delegate(self, at):
        self.delegated = self.devices[at % len(self.devices)].delegate(
            self.city.id, [TRIPS], to=self.guardian.delegate_key(self.city.id, "mobility"), kind="guardian",
            purposes=PURPOSES, loss=Loss(4 * UNIT.nano), until="2040-01-01",
        )  # fmt: skip

    @precondition(lambda self: self.delegated is not None)
    @rule(at=DEVICES, purpose=st.sampled_from(PURPOSES), units=st.integers(1, 4), send=st.booleans())
    def have_granted(self, at, purpose, units, send):
        """The guardian signs on the same account; the sum of what they signed is capped by their own delegation."""
        at %= len(self.devices)
        try:
            consent = self.devices[at].accept(
                self.guardian.grant_for(self.delegated, TRIPS, purpose=purpose, loss=Loss(units * UNIT.nano))
            )
        except ConsentError:
            return
        self.consents[at].append(consent)
        if send:
            self.send(at, consent)

    @precondition(lambda self: self.delegated is not None)
    @rule(at=DEVICES, deliver=st.booleans())
    def end_the_delegation(self, at, deliver):
        try:
            ended = self.devices[at % len(self.devices)].revoke_delegation(self.delegated)
        except ConsentError:
            return
        self.delegated = None
        if deliver:
            with contextlib.suppress(ConsentError):
                self.city.revoke(ended)

    @rule(at=DEVICES)
    def compact(self, at):
        self.devices[at % len(self.devices)].compact()

    @rule(at=DEVICES)
    def erase_domain(self, at):
        at %= len(self.devices)
        self.keys[at] = secrets.token_bytes(32)
        self.devices[at].erase_domain("mobility", device_key=self.keys[at])
        self.erased[at] += 1

    @rule(at=DEVICES)
    def rotate(self, at):
        at %= len(self.devices)
        self.keys[at] = secrets.token_bytes(32)
        self.devices[at].keys.rotate(device_key=self.keys[at])

    @rule(at=DEVICES)
    def reopen(self, at):
        at %= len(self.devices)
        self.devices[at].close()
        self.devices[at] = ds.Resident.open(self.path(at), device_key=self.keys[at], clock=self.clock)

    @precondition(lambda self: len(self.devices) == 1)
    @rule()
    def enrol(self):
        self.keys.append(secrets.token_bytes(32))
        self.devices[0].enrol(self.path(1), device_key=self.keys[1])
        self.devices.append(ds.Resident.open(self.path(1), device_key=self.keys[1], clock=self.clock))
        self.consents.append(list(self.consents[0]))
        self.granted.append(self.granted[0])
        self.erased.append(self.erased[0])

    @precondition(lambda self: len(self.devices) == 2)
    @rule(into=DEVICES)
    def merge(self, into):
        other = 1 - into
        before = [d.granted for d in self.devices]
        self.devices[other].close()
        try:
            self.devices[into].merge(self.path(other), device_key=self.keys[other])
        except StoreError:
            assert self.erased[0] != self.erased[1]
        else:
            known = {c.digest for c in self.consents[into]}
            self.consents[into] += [c for c in self.consents[other] if c.digest not in known]
            assert all(b <= self.devices[into].granted for b in before)
        self.devices[other] = ds.Resident.open(self.path(other), device_key=self.keys[other], clock=self.clock)

    # --- what the city does

    @rule(purpose=st.sampled_from(PURPOSES), many=st.integers(1, 4))
    def ask(self, purpose, many):
        for _ in range(many):
            self.asked += 1
            query = ds.query(TRIPS).keys("district").bound(rows=5, keys=4).where(ds.col("km") > -self.asked).count()
            self.city.release(query, loss=Loss(2 * UNIT.nano), purpose=purpose)

    @rule(days=st.sampled_from([0, 1, 12]))
    def later(self, days):
        self.clock.now += days * DAY + 4_000
        self.city.tick()

    @rule(purpose=st.sampled_from(PURPOSES))
    def compact_the_pool(self, purpose):
        self.city.compact(TRIPS, purpose)

    @rule()
    def restart(self):
        self.city.close()
        self.city = self.opened_city()

    # --- what always holds

    def spent(self, purpose: str) -> int:
        name = partition_name(TRIPS, purpose)
        members = len(self.city._registry.partition(name))
        assert members <= 1, "the city took the resident for another one"
        return int(self.city._ledger.spent(name, 1)[0, 0])

    @invariant()
    def the_city_gives_no_fresh_account(self):
        for purpose in PURPOSES:
            spent = self.spent(purpose)
            assert self.charged[purpose] <= spent <= self.largest[purpose]
            self.charged[purpose] = spent

    @invariant()
    def the_vault_counts_no_less(self):
        for at, resident in enumerate(self.devices):
            granted = resident.granted
            assert self.granted[at] <= granted, "the vault counts less than before"
            assert all(self.counted(at, p) <= granted.nano for p in PURPOSES)
            self.granted[at] = granted

    def counted(self, at: int, purpose: str) -> int:
        return max((c.claims.loss.nano for c in self.consents[at] if c.claims.purpose == purpose), default=0)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Accounts, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_an_account_outlives_everything():
    run(10, 25)


@pytest.mark.campaign
def test_an_account_outlives_everything_many_times():
    run(200, 60)


def one_life() -> None:
    """A life in which each of the faults below shows, told to the machine step by step."""
    life = Accounts()
    steps = (
        lambda: life.put(0), lambda: life.grant(0, PURPOSES[0], 3, 400, None, True), lambda: life.ask(PURPOSES[0], 2),
        lambda: life.revoke(0, 0, True), lambda: life.rotate(0), lambda: life.erase_domain(0), lambda: life.later(12),
        lambda: life.later(12), lambda: life.put(0), lambda: life.grant(0, PURPOSES[0], 2, 400, None, True),
        lambda: life.ask(PURPOSES[0], 2), lambda: life.grant(0, PURPOSES[1], 1, 400, None, True),
        lambda: life.delegate(0), lambda: life.later(1), lambda: life.have_granted(0, PURPOSES[0], 4, True),
        lambda: life.ask(PURPOSES[0], 2), lambda: life.end_the_delegation(0, True), lambda: life.ask(PURPOSES[0], 2),
    )  # fmt: skip
    try:
        life.make()
        for step in steps:
            step()
            life.the_city_gives_no_fresh_account()
            life.the_vault_counts_no_less()
        assert life.charged[PURPOSES[0]] > 0
        assert life.largest[PURPOSES[0]] == 4 * UNIT.nano, "what the guardian granted was admitted"
    finally:
        life.teardown()


def test_a_life_in_which_each_fault_would_show_has_none():
    one_life()


def keys_that_change_with_an_erasure(patch: pytest.MonkeyPatch) -> None:
    """The consent key follows the domain's id, which each erasure changes."""

    real = Vault.derive

    def derive(vault, info):
        changing = vault._secrets.domain("mobility").id if info.startswith(b"datasov consent key v1 mobility") else b""
        return real(vault, info + changing)

    patch.setattr(Vault, "derive", derive)


def revoked_consents_do_not_count(patch: pytest.MonkeyPatch) -> None:
    real = resident_module.granted
    patch.setattr(resident_module, "granted", lambda records: real([r for r in records if not r.revoked]))


def newest_consents_alone_count(patch: pytest.MonkeyPatch) -> None:
    real = resident_module.granted
    patch.setattr(resident_module, "granted", lambda records: real(records[-1:]))


def delegates_have_accounts_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """The city gives the delegate's consent a place of its own, by who signed it."""
    real = Draft._add

    def add(draft, admission):
        with pytest.MonkeyPatch.context() as inner:
            if admission.chain:
                inner.setattr(Places, "get", lambda places, account: None)
            return real(draft, admission)

    patch.setattr(Draft, "_add", add)


@pytest.mark.parametrize(
    "plant",
    [
        keys_that_change_with_an_erasure, revoked_consents_do_not_count, newest_consents_alone_count,
        delegates_have_accounts_of_their_own,
    ],
)  # fmt: skip
def test_an_account_that_begins_anew_is_noticed(monkeypatch, plant):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=r"for another one|counts less"):
        one_life()
