"""Claim: with two batches under way, no crash and no lost answer counts a report twice, or stops a task.

The leader sends batch n once the answer to n - 1 is in hand and n - 2 is recorded; the helper keeps two answers.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import leader
from datasov.aggregator.messages import open_share, request
from datasov.errors import DatasovError, PeerError, VerificationError
from datasov.mpc.report import make_reports
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.helpers import TRIPS
from tests.servers import LONG, Crash, FailingStore, Servers, made_task, silent

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
BATCHES = 4


@pytest.fixture
def ready(clock, monkeypatch):
    """Two aggregators, with reports for four batches of two at the leader."""
    silent(monkeypatch)
    monkeypatch.setattr(leader, "BATCH", 2)
    signed, key = made_task(CELL, clock)
    task = read_task(signed)
    servers = Servers(clock, task.city)
    servers.leader.handle("tasks", signed)
    reports = make_reports(task, [[np.eye(4, dtype=np.int64)[n % 4]] for n in range(2 * BATCHES)])
    for at in range(0, len(reports), 2):
        servers.upload(reports[at : at + 2])
    return servers, task, key


def insist(servers, call, tries=20):
    for _ in range(tries):
        try:
            return call()
        except Crash:
            servers.restart()
        except PeerError:
            pass
    raise AssertionError("it never comes to an end")


def check(servers, task, key, clock, batches=BATCHES):
    """Every batch once at each, and every report in the sum once."""
    while insist(servers, servers.leader.work):
        pass
    clock.now += LONG
    shares = cbor.decode(insist(servers, lambda: servers.leader.handle("collect", task.id)))
    found = [open_share(s, task, role, key) for role, s in enumerate(shares)]
    assert [f.reports for f in found] == [2 * BATCHES] * 2
    assert task.fits[0].joined(found[0].shares[0], found[1].shares[0], 2 * BATCHES).tolist() == [2, 2, 2, 2]
    assert [s.length("jobs/" + task.id.hex()) for s in servers.stores] == [batches] * 2


def test_a_report_that_comes_again_before_its_batch_is_recorded_counts_once(ready, clock):
    servers, task, key = ready
    uploads = [servers.stores[0].blob(f"reports/{task.id.hex()}/{n:09d}") for n in range(BATCHES)]
    for n in (0, 1, 1, 3):
        servers.leader.handle("reports", uploads[n])
    one = cbor.decode(uploads[2])[0]
    servers.leader.handle("reports", cbor.encode([one, one]))
    assert servers.leader.work() == BATCHES + 5
    check(servers, task, key, clock, batches=BATCHES + 5)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("which", [0, 1], ids=["leader", "helper"])
@pytest.mark.parametrize("at", range(1, BATCHES + 1))
def test_a_process_that_ends_at_any_batch(ready, clock, which, late, at):
    servers, task, key = ready
    aggregator = servers.both[which]
    aggregator.store = FailingStore(servers.stores[which], at, late)
    with pytest.raises(Crash):
        servers.leader.work()
    assert servers.stores[1].length("jobs/" + task.id.hex()) <= servers.stores[0].length("jobs/" + task.id.hex()) + 2
    servers.restart()
    check(servers, task, key, clock)


@pytest.mark.parametrize("taken", [False, True], ids=["on the way there", "on the way back"])
@pytest.mark.parametrize("lost", [(n,) for n in range(BATCHES)] + [(0, 1), (1, 2, 3), (0, 2)], ids=str)
def test_messages_that_are_lost(ready, clock, lost, taken):
    """The first message, or more of them, of the line's count; and once more where it is sent again."""
    servers, task, key = ready
    whole, count = servers.post, iter(range(1000))

    def lossy(to, path, body):
        broken = path == "jobs" and next(count) in lost
        if broken and not taken:
            raise PeerError("the line broke")
        answer = whole(to, path, body)
        if broken:
            raise PeerError("the line broke")
        return answer

    servers.leader.post = lossy
    check(servers, task, key, clock)


def test_the_last_two_batches_are_answered_again_with_the_same_bytes_and_none_before(ready, clock):
    servers, task, key = ready
    servers.leader.work()
    told = [(body, answer) for _, path, body, answer in servers.said if path == "jobs"]
    assert len(told) == BATCHES
    for _ in range(2):
        for body, answer in told[-2:]:
            assert servers.helper.handle("jobs", body) == answer
        for body, _ in told[:-2]:
            with pytest.raises(VerificationError, match="number 4"):
                servers.helper.handle("jobs", body)
        servers.restart()
    check(servers, task, key, clock)


def test_no_number_but_the_next_one_is_taken_and_no_other_batch_under_a_number_that_was(ready, clock):
    servers, task, key = ready
    servers.leader.work()
    before = servers.helper.store.blob("sum/" + task.id.hex())
    empty, short = [b"", [b""], b"", [b""]], [bytes(15), [b""], b"", [b""]]
    for number, told in [*((n, empty) for n in (-1, 0, 1, 2, 3, 5, 2**63, True, None, b"")), (4, short)]:
        asking = request(servers.leader.signing, task.trust.aggregators[1], "jobs", [task.id, number, *told])
        with pytest.raises(DatasovError):
            asking.send(servers.post)
    assert servers.helper.store.blob("sum/" + task.id.hex()) == before
    check(servers, task, key, clock)


def test_a_batch_is_sent_while_the_one_before_is_recorded_and_never_a_third(ready, clock):
    """The leader's store does not come back from its first record until the helper has the second batch."""
    servers, task, key = ready
    store, at_helper = servers.leader.store, servers.stores[1]
    name, counted = "jobs/" + task.id.hex(), []

    class Slow:
        def __getattr__(self, of):
            return getattr(store, of)

        def append(self, batch, blobs=None):
            if name in batch:
                wanted = min(store.length(name) + 2, BATCHES)
                for _ in range(2000):
                    if at_helper.length(name) >= wanted:
                        break
                    time.sleep(0.005)
                counted.append(at_helper.length(name) - store.length(name))
            store.append(batch, blobs)

    servers.leader.store = Slow()
    servers.leader.work()
    assert counted == [2, 2, 2, 1]
    servers.leader.store = store
    check(servers, task, key, clock)
