"""A city's whole life in any order: admit, top up, replay, ask, repeat, revoke, exhaust, kill, restart, restore.

After every step: nothing is overspent, for the city or for any resident; a stored answer never changes; there is no
answer without a reservation, a charge and a leaf; what reached the noise was the exact total of the payers alone.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import datasov as ds
from datasov.authority.registry import partition_name
from datasov.errors import BudgetExceededError, ConsentError, StoreError
from datasov.kernel import monitor
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from datasov.tlog.receipt import receipt
from tests.helpers import PURPOSE, Clock, consent_for, packed, revocation, signed, values
from tests.property.trace_model import BUDGET, EVENTS, LOSSES, NAMES, QUESTIONS, UNITS, WHO, Member, Model, fresh_rows

_REAL_DRAW = monitor.draw

pytestmark = pytest.mark.usefixtures("few_status_lists")


class Aborted(BaseException):
    """What a test raises out of the store: nothing catches it, as nothing catches a kill."""


class Trace(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock, self.model = Clock(), Model()
        self.sent: list[tuple[ds.Consent, bytes]] = []
        self.drawn: list[np.ndarray] = []
        self.backup: tuple[Path, bytes, Model] | None = None
        self.sequence = 0

        def draw(total, plan, reservation):
            self.drawn.append(values(total).copy())
            return _REAL_DRAW(total, plan, reservation)

        monitor.draw = draw
        self.path = self.folder / "lake.city"
        self.city = ds.City.open(self.path, budget=BUDGET, purposes=[PURPOSE], clock=self.clock)
        self.key = self.path.with_name("lake.city.key").read_bytes()

    def teardown(self) -> None:
        monitor.draw = _REAL_DRAW
        self.check_receipts()
        self.city.close()
        shutil.rmtree(self.folder)

    @initialize(seed=st.integers(0, 10**6), cap=st.integers(1, 8))
    def everybody(self, seed, cap):
        for i, name in enumerate(NAMES):
            self.send(name, seed + i, fewer=False, join=i != 1, cap=cap + i, days=90, pure=i == 3)

    # --- consents and rows

    def send(self, name: str, seed: int, *, fewer: bool, join: bool, cap: int, days: int, pure: bool) -> None:
        self.sequence += 1
        unit = UNITS["pure" if pure else "zcdp"]
        columns = ["cat", "flag"] if fewer else ["cat", "num", "flag"]
        consent = consent_for(
            self.city, EVENTS, name, columns=columns, join=[WHO] if join else [],
            loss=ds.Loss(cap * unit.nano, unit.measure),
            issued=self.clock.now - 10**6 + self.sequence, expires=self.clock.now + days * 86_400,
        )  # fmt: skip
        rows, profile = fresh_rows(seed)
        member = self.model.members[name]
        self.deliver(name, consent, rows, profile)
        most = {**member.most, unit.measure: max(member.most[unit.measure], consent.claims.loss.nano)}
        self.model.members[name] = Member(rows, profile, consent, columns, True, member.spent, most)

    def deliver(self, name: str, consent: ds.Consent, rows: list, profile: list) -> None:
        joined = [("who", packed(WHO, profile))] if len(consent.claims.coverage) > 1 else []
        base = packed(EVENTS, rows, consent.claims.coverage[0].columns)
        sealed = signed(self.city, consent, name, self.sequence, base, joined)
        self.city.admit(consent, sealed)
        self.sent.append((consent, sealed))

    @rule(
        name=st.sampled_from(NAMES), seed=st.integers(0, 10**6), fewer=st.booleans(), join=st.booleans(),
        cap=st.integers(1, 8), days=st.sampled_from([1, 90]), pure=st.sampled_from([False, False, True]),
    )  # fmt: skip
    def consent_anew(self, name, seed, fewer, join, cap, days, pure):
        self.send(name, seed, fewer=fewer, join=join, cap=cap, days=days, pure=pure)

    @rule(name=st.sampled_from(NAMES), seed=st.integers(0, 10**6))
    def top_up(self, name, seed):
        member = self.model.members[name]
        if member.consent is None or not member.live or member.consent.claims.expires <= self.clock.now:
            return
        self.sequence += 1
        member.rows, member.profile = fresh_rows(seed)
        self.deliver(name, member.consent, member.rows, member.profile)

    @rule(data=st.data())
    def replay(self, data):
        with pytest.raises(ConsentError):
            self.city.admit(*data.draw(st.sampled_from(self.sent)))

    @rule(name=st.sampled_from(NAMES))
    def revoke(self, name):
        member = self.model.members[name]
        if member.consent is None:
            return
        if not member.live:
            with pytest.raises(ConsentError):
                self.city.revoke(revocation(member.consent, name))
            return
        self.city.revoke(revocation(member.consent, name))
        member.live = False

    @rule()
    def compact(self):
        self.city.compact(EVENTS, PURPOSE)

    # --- questions

    def ask(self, question: int, loss: ds.Loss) -> bytes:
        found = self.city.release(QUESTIONS[question], loss=loss, purpose=PURPOSE)
        return found.identifier + b"".join(v.tobytes() for v in found.values)

    @rule(question=st.integers(0, len(QUESTIONS) - 1), loss=st.sampled_from(LOSSES))
    def question(self, question, loss):
        key = question, loss, self.city.epoch
        before = len(self.drawn)
        if key in self.model.stored:
            assert self.ask(question, loss) == self.model.stored[key], "a stored answer changed"
        elif self.model.spent + loss.concentrated.nano > BUDGET.nano:
            with pytest.raises(BudgetExceededError):
                self.ask(question, loss)
        else:
            payers = self.model.payers(question, loss, self.clock.now, self.key)
            answer = self.ask(question, loss)
            assert len(self.drawn) == before + 1
            assert (self.drawn[-1] == self.model.totals(question, payers, self.key)).all()
            self.answered(key, payers, loss, answer)
            return
        assert len(self.drawn) == before, "noise was drawn for nothing"

    @rule(
        asked=st.lists(st.integers(0, len(QUESTIONS) - 1), min_size=2, max_size=4), loss=st.sampled_from(LOSSES),
    )  # fmt: skip
    def several_questions(self, asked, loss):
        for question in asked:
            self.question(question, loss)

    def answered(self, key: tuple[int, ds.Loss, int], prices: dict[str, int], loss: ds.Loss, answer: bytes) -> None:
        self.model.spent += loss.concentrated.nano
        self.model.charge(prices, loss.measure)
        self.model.stored[key] = answer
        self.model.order.append(answer)

    @rule(days=st.integers(0, 1), hours=st.integers(0, 23))
    def later(self, days, hours):
        self.clock.now += days * 86_400 + hours * 3_600

    # --- crashes and copies

    def reopen(self) -> None:
        self.city = ds.City.open(self.path, clock=self.clock)

    @rule(kill=st.booleans())
    def restart(self, kill):
        if kill:
            del self.city
            gc.collect()
        else:
            self.city.close()
        self.reopen()

    @rule(
        question=st.integers(0, len(QUESTIONS) - 1), loss=st.sampled_from(LOSSES), nth=st.integers(0, 5),
        after=st.booleans(),
    )  # fmt: skip
    def abort(self, question, loss, nth, after):
        """Die before or after the nth append of a question, and see what stands."""
        key = question, loss, self.city.epoch
        prices = self.model.payers(question, loss, self.clock.now, self.key)
        append, left = self.city._store.append, nth

        def dying(*given):
            nonlocal left
            left -= 1
            if left < 0 and not after:
                raise Aborted
            append(*given)
            if left < 0:
                raise Aborted

        self.city._store.append = dying
        try:
            answer = self.ask(question, loss)
        except Aborted:
            answer = None
        except BudgetExceededError:
            assert self.model.spent + loss.concentrated.nano > BUDGET.nano
            answer = None
        self.city = append = dying = None
        gc.collect()
        self.reopen()
        outputs = len(self.city.releases())
        if key in self.model.stored:
            assert answer in (None, self.model.stored[key])
            assert outputs == len(self.model.order)
            return
        reserved = BUDGET.nano - self.model.spent - self.city.remaining.nano
        assert reserved in (0, loss.concentrated.nano)
        measure, held = loss.measure, self.model.members.items()
        charged = {n: now - m.spent[measure] for n, m in held if (now := self.spent_by(n, measure)) != m.spent[measure]}
        costly = {n: price for n, price in prices.items() if price}
        assert charged in ({}, costly), "a charge is all or nothing"
        assert reserved or not charged, "a resident was charged before the city was"
        if outputs > len(self.model.order):
            assert reserved, "an answer without a reservation"
            assert charged == costly, "an answer without its charge"
            stored = self.city.releases()[-1]
            answer = stored.identifier + b"".join(v.tobytes() for v in stored.values)
            self.answered(key, prices, loss, answer)
        else:
            assert answer is None, "an answer that is not stored"
            self.model.spent += reserved
            self.model.charge(charged, measure)

    @rule()
    def back_up(self):
        self.city.close()
        copy = self.folder / "backup"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.path, copy)
        self.reopen()
        self.backup = copy, self.anchor.read_bytes(), self.model.copy()

    @property
    def anchor(self) -> Path:
        return self.path.with_name("lake.city.anchor")

    @precondition(lambda self: self.backup is not None)
    @rule(reanchor=st.booleans(), old_anchor=st.booleans())
    def restore(self, reanchor, old_anchor):
        """Bring an old copy back: refused, unless the operator forces it; the newest is put back afterwards."""
        copy, anchor, model = self.backup
        self.city.close()
        newest, present = self.folder / "newest", self.anchor.read_bytes()
        self.path.rename(newest)
        shutil.copytree(copy, self.path)
        if old_anchor:
            self.anchor.write_bytes(anchor)
        moved = present != anchor
        if moved and not (reanchor or old_anchor):
            with pytest.raises(StoreError):
                ds.City.open(self.path, clock=self.clock)
        else:
            with ds.City.open(self.path, clock=self.clock, reanchor=reanchor) as restored:
                assert restored.remaining.nano == BUDGET.nano - model.spent
        shutil.rmtree(self.path)
        newest.rename(self.path)
        self.anchor.write_bytes(present)
        self.reopen()

    # --- what always holds

    def spent_by(self, name: str, measure: str) -> int:
        partition = self.city._registry.partition(partition_name(EVENTS, PURPOSE))
        member = self.model.members[name]
        if member.consent is None:
            return 0
        place = partition.places[member.consent.claims.issuer]
        account = partition.name + ("/pure" if measure == "pure" else "")
        return int(self.city._ledger.spent(account, len(partition))[0][place])

    @invariant()
    def accounts(self):
        assert self.city.remaining.nano == BUDGET.nano - self.model.spent >= 0
        for name, member in self.model.members.items():
            for measure in UNITS:
                assert self.spent_by(name, measure) == member.spent[measure] <= member.most[measure]

    @invariant()
    def answers_and_log(self):
        stored = [r.identifier + b"".join(v.tobytes() for v in r.values) for r in self.city.releases()]
        assert stored == self.model.order, "a stored answer changed, came or went"
        leaves = self.city.log.leaves()
        assert leaves[: len(self.model.leaves)] == self.model.leaves, "the log did not only grow"
        self.model.leaves = leaves
        told = [leaf.release_id for leaf in map(decode_leaf, leaves) if isinstance(leaf, ReleaseLeaf)]
        assert told == [answer[:16] for answer in stored], "a release without its one leaf"

    def check_receipts(self) -> None:
        log, checkpoint = self.city.log, self.city.log.checkpoint()
        for index, leaf in enumerate(log.leaves()):
            if isinstance(decode_leaf(leaf), ReleaseLeaf):
                receipt(log, index, checkpoint, self.city.id.verify_key, log.origin).verify(checkpoint)


def test_a_citys_whole_life():
    run(12, 35)


@pytest.mark.campaign
def test_a_citys_whole_life_many_times():
    run(250, 50)


def run(examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Trace, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None))
