"""What is due when a public tick or round is over, whoever notices first: batches, status lists, erasure."""

from __future__ import annotations

from dataclasses import dataclass

from datasov.authority.lists import StatusLists
from datasov.pool.pool import Pool
from datasov.store.stores import Store
from datasov.tlog import erasures, ticks


@dataclass(frozen=True, slots=True)
class Public:
    """The public times of a city: Unix seconds of its founding, seconds of a tick and of a round of erasure."""

    founded: int
    tick: int
    round: int


def keep(store: Store, pool: Pool, lists: StatusLists, times: Public, now: int) -> bool:
    """Do what is due, and say whether anything was. All of it depends on the clock, and none on who revoked.

    Raises:
        ConflictError: another process was first in a part of it: do it again.
    """
    published = ticks.publish(store, times.founded, times.tick, now)
    listed = lists.publish(now)
    if not erasures.due(store, times.founded, times.round, now):
        return published or listed
    pool.erase()
    store.wipe()
    erasures.publish(store, times.founded, times.round, now)
    return True
