"""What the tests of engines share: a question as the monitor has it made, and a city that asks one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import datasov as ds
from datasov.authority.registry import partition_name
from datasov.kernel.contribute import add, contribute, shares, total
from datasov.kernel.plan import compile
from datasov.model.privacy import Loss
from tests.helpers import COUNT, PURPOSE, TRIPS, Clock, enrol, found_city, values

LOSS = Loss(10**6)
STORE = 100 * 2**20
KM = COUNT.sum("km")


def answered(engine, query, shards, eligible=None, between=lambda: None, within=lambda f: f):
    """Totals and prices as the monitor has them made, of residents who can pay four fifths of the dearest."""
    plan = compile(query)
    loss = ds.zcdp(rho="0.001", delta="1e-9") if plan.unknown else LOSS
    eligible = np.ones(sum(s.residents for s in shards), dtype=np.bool_) if eligible is None else eligible

    def part(shard):
        made = contribute(plan, shard, eligible[shard.first : shard.first + shard.residents])
        return made, shares(plan, made, loss)

    parts = list(engine(within(part), shards))
    owed = np.zeros(len(eligible), dtype=np.int64)
    for made, cost in parts:
        owed[made.first : made.first + made.residents] = cost
    pays = owed <= 0.8 * owed.max()
    between()

    def paid(item):
        return total(plan, item[0], pays[item[0].first : item[0].first + item[0].residents])

    added = add(engine(within(paid), parts), plan)
    return values(added).tolist(), owed.tolist(), None if added._cells is None else added._cells.tolist()


def once(marker: Path) -> bool:
    """Whether nobody, in any process, came here before."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def recorded(engine, seen):
    """The engine, with the exact totals of its second map written down."""

    def wrapped(function, items):
        for result in engine(function, items):
            seen.append(result)
            yield result

    return wrapped


def asked(folder, engine):
    """Prices, exact totals and what is left after a release of a city with 12 residents."""
    seen = []
    with found_city(folder, Clock(), engine=recorded(engine, seen)) as city:
        enrol(city, range(12), lambda n: [{"district": "NESW"[n % 4], "km": n}] * (n % 4))
        released = city.release(KM, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE)
        assert city.release(KM, loss=ds.zcdp(rho="0.05"), purpose=PURPOSE).identifier == released.identifier
        spent = city._ledger.spent(partition_name(TRIPS, PURPOSE), 12)
        assert len(city.releases()) == 1
        return spent.tolist(), values(seen[-1]).tolist(), city.remaining, released.frame().shape


class Panic(BaseException):
    """As a panic of Polars: not an Exception."""
