"""An aggregator: what it takes in, as one function from a path and a body to an answer; HTTP only carries it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from datasov.aggregator import helper, issuing, leader
from datasov.aggregator.held import Store
from datasov.aggregator.messages import MOST_BODY, Post
from datasov.aggregator.state import State
from datasov.errors import ConsentError, DatasovError, InvalidDataError
from datasov.model.document import canonical
from datasov.model.parties import AggregatorId
from datasov.model.privacy import Loss
from datasov.mpc.task import MOST_TASK, read_task

LONGEST = {"tasks": MOST_TASK, "tokens": 1 << 16, "keys": 1 << 16, "close": 1 << 16, "collect": 32}
"""Bytes in a request to a path, at most; to the others `MOST_BODY`."""


class Aggregator(State):
    """One aggregator over its own store. Any number of threads may call it; one process at a time has its store.

    Args:
        me: its id. secret: 32 bytes, from which its keys come.
        budget: what all its shares may ever cost; named for a new store, and None for one that exists.
        cities: texts of the ids of the cities whose tasks it takes.
        post: how it reaches the other aggregator.
    """

    def __init__(
        self, me: AggregatorId, secret: bytes, store: Store, cities: Collection[str], *, clock: Callable[[], float],
        post: Post, budget: Loss | None = None,
    ) -> None:  # fmt: skip
        super().__init__(me, secret, store, cities, clock, post, budget)

    def handle(self, path: str, body: bytes) -> bytes:
        """Answer a request: the only door.

        Raises:
            DatasovError: it is refused; the message tells nothing of a report.
        """
        if len(body) > LONGEST.get(path, MOST_BODY):
            raise InvalidDataError("the request is too long for its path: send less at once")
        match path:
            case "tasks":
                return self._accept(body)
            case "tokens":
                return issuing.issue(self, body)
            case "reports":
                return leader.upload(self, body)
            case "collect":
                return leader.collect(self, body)
            case "keys" | "jobs" | "close":
                return helper.serve(self, path, body)
        raise InvalidDataError("no such path: an aggregator takes tasks, tokens, reports, keys, jobs, close, collect")

    def work(self) -> int:
        """As a leader, aggregate the batches that are full, and those of tasks that are over. How many were.

        Raises:
            DatasovError: the first that a task raised, once all the others had their turn.
        """
        done, faults = 0, list[DatasovError]()
        for task in self.store.read("taken"):
            if self._leads(task):
                try:
                    done += leader.drive(self, task)
                except DatasovError as fault:
                    faults.append(fault)
        if faults:
            raise faults[0]
        return done

    def _leads(self, task: bytes) -> bool:
        try:
            self.task(task, 0)
        except InvalidDataError:
            return False
        return True

    def _accept(self, body: bytes) -> bytes:
        """Take a task from its city: reserve its loss, and tell the helper. Asked again, the same."""
        task = read_task(body, self.cities)
        if self.me not in task.trust.aggregators:
            raise ConsentError("the task names another aggregator, or this one by another name, address or key")
        with self.guard:
            if self.ledger.stored(task.id) is None:
                if not self.now() < task.until:
                    raise InvalidDataError("the task is over: compare the clocks")
                reservation = self.ledger.reserve(task.loss)
                leaf = canonical({"task": task.id.hex(), "loss": task.loss.document(), "what": "task"})
                self.ledger.commit(reservation, task.id, body, leaf, stands=True)
            if task.id not in self.store.read("taken"):
                self.store.append({"taken": (self.store.length("taken"), [task.id])})
        if self.me == task.trust.aggregators[0]:
            leader.introduce(self, task)
        return task.id
