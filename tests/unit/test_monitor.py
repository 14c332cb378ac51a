"""release(): its steps in their order, and what stands after a failure in each."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import datasov as ds
from datasov.errors import BudgetExceededError, ConflictError, ConsentError, InternalError
from datasov.kernel import monitor
from datasov.kernel.ledger import Ledger
from datasov.kernel.plan import compile
from datasov.model.charges import SHARES
from datasov.model.plan import Noised, Request
from datasov.model.privacy import Loss
from datasov.model.shard import Snapshot
from tests.helpers import COUNT, PURPOSE, MemoryStore, outputs

REQUEST = Request(compile(COUNT), Loss(40), PURPOSE, ds.central(), 7)


class Steps:
    """Everything that release() is handed, writing down when it was called; `fails` raises at one of them."""

    def __init__(self, budget: int = 100) -> None:
        self.store, self.seen, self.fails = MemoryStore(), [], {}
        self.ledger = Ledger(self.store, Loss(budget))
        append = self.store.append

        def recorded(batch, blobs=None):
            self.step("+".join(s.split("/")[0] for s, (_, bodies) in sorted(batch.items()) if bodies))
            append(batch, blobs)

        self.store.append = recorded

    def step(self, name: str) -> None:
        self.seen.append(name)
        if name in self.fails:
            raise self.fails.pop(name)

    def authorise(self, request: Request) -> None:
        self.step("authorise")

    def snapshot(self, request: Request) -> Snapshot:
        self.step("snapshot")
        ones = np.ones(3, dtype=np.bool_)
        return Snapshot("a", {}, ones, np.full((2, 3), 100, dtype=np.int64), [object()])

    def engine(self, function, items):
        """The first call gives three residents who each owe the whole loss, the second adds nothing up."""
        if isinstance(items[0], tuple):
            self.step("add")
            return []
        self.step("contribute")
        return [(SimpleNamespace(first=0, residents=3), np.full(3, SHARES, dtype=np.int64))]

    def record(self, request: Request, noised: Noised) -> tuple[bytes, bytes]:
        self.step("record")
        return b"body " + noised.identifier, b"leaf"

    def release(self, request: Request = REQUEST) -> bytes:
        return monitor.release(
            request, authorise=self.authorise, ledger=self.ledger, pool=self, engine=self.engine, record=self.record
        )


@pytest.fixture
def steps(monkeypatch):
    made, real = Steps(), monitor.draw

    def draw(*given):
        made.step("draw")
        return real(*given)

    monkeypatch.setattr(monitor, "draw", draw)
    return made


ORDER = [
    "authorise", "ledger", "snapshot", "contribute", "accounts", "add", "draw", "record", "ledger+log+releases",
]  # fmt: skip


def test_the_order_of_a_release(steps):
    steps.release()
    assert steps.seen == ORDER


def test_a_repeated_question_is_authorised_and_looked_up_and_nothing_else(steps):
    first = steps.release()
    steps.seen.clear()
    assert steps.release() == first
    assert steps.seen == ["authorise"]
    steps.fails["authorise"] = ConsentError("no longer")
    with pytest.raises(ConsentError):
        steps.release()


@pytest.mark.parametrize("at", range(len(ORDER)))
def test_a_failure_at_any_step_never_gives_an_answer_that_is_not_paid_for(steps, at):
    steps.fails[ORDER[at]] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        steps.release()
    assert steps.seen == ORDER[: at + 1]
    restarted = Ledger(steps.store)
    spent = 100 - restarted.remaining().nano
    assert spent == (40 if at > 1 else 0)
    assert restarted.spent("a", 3)[0].tolist() == ([40] * 3 if at > 4 else [0] * 3)
    assert outputs(restarted) == []
    assert steps.store.length("log") == 0
    steps.seen.clear()
    steps.release()
    assert steps.seen == ORDER, "asking again reserves anew"
    assert steps.ledger.remaining().nano == 100 - spent - 40


def test_a_budget_that_does_not_cover_the_loss_stops_before_any_data(steps):
    steps.ledger.reserve(Loss(61))
    steps.seen.clear()
    with pytest.raises(BudgetExceededError):
        steps.release()
    assert steps.seen == ["authorise"]


def test_a_moved_registry_is_read_again_and_charged_once(steps):
    steps.fails["accounts"] = ConflictError("moved on")
    steps.release()
    assert steps.seen == [*ORDER[:5], *ORDER[2:]]
    assert steps.ledger.spent("a", 3)[0].tolist() == [40] * 3
    assert steps.ledger.remaining() == Loss(60)


@pytest.mark.parametrize("fault", [ValueError("987654321 rows of ann"), ZeroDivisionError(), IndexError("secret")])
def test_a_fault_over_the_data_is_one_error_that_tells_nothing(steps, fault):
    steps.fails["contribute"] = fault
    with pytest.raises(InternalError) as why:
        steps.release()
    assert str(fault) == "" or str(fault) not in str(why.value)
    assert why.value.__cause__ is None
    assert why.value.__suppress_context__
    assert steps.ledger.remaining() == Loss(60)


def test_a_request_is_one_question_and_no_other():
    others = [
        REQUEST, replace(REQUEST, loss=Loss(41)), replace(REQUEST, purpose="x"), replace(REQUEST, epoch=8),
        replace(REQUEST, programme="x"), replace(REQUEST, plan=compile(COUNT.bound(rows=4))),
        replace(REQUEST, plan=compile(COUNT.distinct())), replace(REQUEST, plan=compile(COUNT.keys(ds.bin("km", [3])))),
    ]  # fmt: skip
    assert len({r.key for r in others}) == len(others)
    assert replace(REQUEST, plan=compile(COUNT)).key == REQUEST.key
