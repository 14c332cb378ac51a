"""Any life of devices that answer tasks, against a model: consents given and taken back, refusals, repeats, restarts.

What a device charges never exceeds the cap of the consent that it answers under, whatever came before; each release is
exactly what the model counted; a report, a share and a release that stand are the same bytes for ever.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import datasov as ds
from datasov.mpc.task import read_task
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.locals import COUNT, LARGE, certain, city_of
from tests.servers import LONG, TRUST, grant, opened, resident, silent

WHO = st.integers(0, 2)
MOST = 5
"""Questions that the city's budget holds."""


def device_key(name: object) -> bytes:
    """As tests.servers.resident has it."""
    return hashlib.sha256(repr(name).encode()).digest()


class Devices(RuleBasedStateMachine):
    trust: ds.Trust = TRUST

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.clock, self.patch = Path(tempfile.mkdtemp()), Clock(), pytest.MonkeyPatch()
        self.patch.setattr("os.fsync", lambda _: None)
        silent(self.patch)
        certain(self.patch)
        budget = ds.Loss(MOST * LARGE.nano, "pure")
        self.city, self.servers = city_of(self.folder, self.clock, self.trust, budget=budget)
        self.people = [
            resident(self.folder, self.clock, n, {TRIPS: [{"district": "NES"[n], "km": 9}]}) for n in range(3)
        ]
        self.caps: list[int | None] = [None] * 3
        """Units of the newest consent, where it is live and of this trust."""
        self.spent, self.asked = [0] * 3, 0
        self.tasks: dict[bytes, dict[int, tuple[bytes, int]]] = {}
        self.released: dict[bytes, tuple[ds.Query, bytes]] = {}

    def teardown(self) -> None:
        for who in self.people:
            who.close()
        self.city.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        for n in range(3):
            self.consent(n, n, True)
        self.open()

    @rule(n=WHO, units=st.integers(0, 3), right=st.booleans())
    def consent(self, n: int, units: int, right: bool) -> None:
        self.clock.now += 1
        loss = ds.Loss(units * LARGE.nano or 1, "pure")
        grant(self.people[n], self.city, loss=loss, trust=self.trust if right else ds.central())
        self.caps[n] = units if right else None

    @rule(n=WHO)
    def revoke(self, n: int) -> None:
        for consent in self.people[n].consents:
            self.people[n].revoke(consent)
        self.caps[n] = None

    @rule()
    def open(self) -> None:
        query = COUNT.where(ds.col("km") > self.asked)
        if self.asked >= MOST:
            with pytest.raises(ds.BudgetExceededError):
                opened(self.city, COUNT, self.clock, LARGE)
            return
        self.tasks[opened(self.city, query, self.clock, LARGE)] = {}
        self.asked += 1

    @rule(n=WHO, place=st.integers(0, MOST), refuse=st.booleans(), again=st.booleans())
    def answer(self, n: int, place: int, refuse: bool, again: bool) -> None:
        live = [t for t in self.tasks if t not in self.released]
        if not live:
            return
        task = live[place % len(live)]
        report = self.people[n].answer(task, refuse=refuse)
        if n in self.tasks[task]:
            assert report == self.tasks[task][n][0], "asked again, the same bytes"
        else:
            cap = self.caps[n]
            counts = int(not refuse and cap is not None and cap > self.spent[n])
            self.spent[n] += counts
            self.tasks[task][n] = report, counts
        for _ in range(1 + again):
            if self.trust.name == "local":
                self.city.take(report)
            else:
                self.servers.upload([report])

    @rule()
    def end(self) -> None:
        """All that is open is over, and released."""
        self.clock.now += LONG
        for task, answers in self.tasks.items():
            query = read_task(task).query
            if task not in self.released:
                release = self.city.release(query, loss=LARGE, purpose=PURPOSE)
                expected = [sum(c for n, (_, c) in answers.items() if n == cell) for cell in range(3)] + [0]
                if release.responses is not None:
                    assert release.responses.tally.reports == len(answers)
                    assert release.responses.tally.supports.tolist() == expected
                else:
                    assert release.values[0].tolist() == expected
                self.released[task] = query, release.digest

    @rule(n=WHO)
    def restart(self, n: int) -> None:
        path, post = self.city._path, self.city._post
        self.city.close()
        self.city = ds.City.open(path, clock=self.clock, post=post)
        self.servers.restart()
        self.people[n].close()
        self.people[n] = ds.Resident.open(self.folder / f"{n}.vault", device_key=device_key(n), clock=self.clock)

    @invariant()
    def accounts_hold(self) -> None:
        if not self.tasks:
            return
        task = next(iter(self.tasks))
        for who, units in zip(self.people, self.spent, strict=True):
            assert who.spent(LARGE, task).nano == units * LARGE.nano
        assert self.city.remaining.nano == (MOST - self.asked) * LARGE.nano
        for query, digest in self.released.values():
            assert self.city.release(query, loss=LARGE, purpose=PURPOSE).digest == digest


class Local(Devices):
    trust = ds.local()


def life(machine: type[Devices], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


@pytest.mark.parametrize("machine", [Devices, Local])
def test_devices_whole_life(machine):
    life(machine, 3, 12)


@pytest.mark.campaign
@pytest.mark.parametrize("machine", [Devices, Local])
def test_devices_whole_life_many_times(machine):
    life(machine, 40, 30)
