"""follow(): a continual count or sum over a fixed horizon, by a binary tree (docs/proofs/bounded-map.md, lemma 5).

The whole horizon is charged to the city when the series is opened. A step that is over is counted once: one durable
append charges each resident for the full path of what they add, and keeps the exact totals so far, sealed; then the
nodes that close are noised and committed. A crash between the two leaves the counted step, to draw noise for anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from datasov.errors import ConflictError
from datasov.kernel.contribute import add, contribute, total
from datasov.kernel.ledger import Ledger, Mask, Reservation
from datasov.kernel.monitor import Engine, Pool, opaque
from datasov.kernel.noise import draw_nodes
from datasov.kernel.plan import compile
from datasov.model.charges import SHARES, grown, pack_counted, unpack_counted
from datasov.model.document import digest
from datasov.model.partition import BLIND
from datasov.model.plan import Noised, Plan, Request
from datasov.model.privacy import Measure
from datasov.model.series import Series
from datasov.model.shard import Integers, Part, Shard
from datasov.model.statistics import Statistic


def compile_series(series: Series) -> Plan:
    """The plan of a series: at most K rows of a resident in all steps, so K w in L1 in every level of the tree."""
    plan = compile(series.query.bound(rows=series.rows, keys=1))
    path = replace(plan.statistics[0], touched=series.levels)
    return replace(plan, statistics=(path,), index=BLIND, blind=True, keys=1)


def follow(
    request: Request, series: Series, over: int, *, authorise: Callable[[Request], None], ledger: Ledger, pool: Pool,
    engine: Engine, record: Callable[[Noised, int], tuple[bytes, bytes]],
) -> list[bytes]:  # fmt: skip
    """The persisted outputs of a series: its opening, and those of the first `over` steps.

    Args:
        record: the bytes to store and the public leaf of a step, or with -1 of the opening.

    Raises:
        As :func:`datasov.kernel.monitor.release`.
    """
    authorise(request)
    if (opening := ledger.stored(request.key)) is None:
        reserved = ledger.reserve(request.loss, request.purses)
        opening = ledger.commit(reserved, request.key, *record(Noised(reserved.identifier, ()), -1), stands=True)
    outputs, stream = [opening], "accounts/series/" + request.key.hex()
    for step in range(over):
        key = digest([request.key.hex(), step])
        if (stored := ledger.stored(key)) is None:
            reservation = ledger.resume(request.key, series.paid(request.loss))
            with opaque():
                _count(request, series, step, stream, reservation, ledger, pool, engine)
                until = _counted(ledger, stream, step)[0]
                nodes = [until - _counted(ledger, stream, step - (1 << level))[0] for level in series.closing(step)]
                noised = draw_nodes(nodes, request.plan, reservation)
            stored = ledger.commit(reservation, key, *record(noised, step), stands=True)
        outputs.append(stored)
    return outputs


def _counted(ledger: Ledger, stream: str, step: int) -> tuple[Integers, Integers]:
    """Exact totals of all steps up to this one, and the rows and weight (2, residents) that residents added to them."""
    if step < 0:
        return np.zeros(1, dtype=np.int64), np.zeros((2, 0), dtype=np.int64)
    return unpack_counted(ledger.store.read(stream, step, 1)[0])


def _count(
    request: Request, series: Series, step: int, stream: str, reservation: Reservation, ledger: Ledger, pool: Pool,
    engine: Engine,
) -> None:  # fmt: skip
    """Count a step in, where that was not done yet."""
    rows = Statistic("count", "", 0, 0, 0, series.rows, 1)
    plan = replace(request.plan, query=series.window(step), statistics=(*request.plan.statistics, rows))
    while ledger.store.length(stream) <= step:
        totals, used = _counted(ledger, stream, step - 1)
        try:
            snapshot = pool.snapshot(replace(request, plan=plan))
            used = grown(used, len(snapshot.eligible))

            def part(shard: Shard) -> Part:
                here = slice(shard.first, shard.first + shard.residents)
                return contribute(plan, shard, snapshot.eligible[here], series.rows - used[0, here])  # noqa: B023

            parts, added = list(engine(part, snapshot.shards)), np.zeros_like(used)
            for each in parts:
                value, count = each.vectors
                for out, vector in zip(added, (count, value), strict=True):
                    np.add.at(out, each.first + vector.resident.astype(np.int64), np.abs(vector.value))
            most = request.plan.statistics[0].most
            owed = _price(used[1] + added[1], most, request.loss.measure) - _price(used[1], most, request.loss.measure)

            def kept(pays: Mask) -> Mapping[str, tuple[int, Sequence[bytes]]]:
                paid = (total(plan, p, pays[p.first : p.first + p.residents]) for p in parts)  # noqa: B023
                new = totals + add(paid, plan)._values[0]  # noqa: B023
                return {stream: (step, [pack_counted(new, used + np.where(pays, added, 0))])}  # noqa: B023

            ledger.charge(reservation, snapshot.account, owed, snapshot.caps, snapshot.fence, kept)
        except ConflictError:
            continue


def _price(weight: Integers, most: int, measure: Measure) -> Integers:
    """What a resident with this L1 weight over all steps costs at most, in 1/SHARES of the loss, rounded up."""
    share = np.minimum(weight / most * (1 + 1e-9), 1.0)
    owed: Integers = np.ceil((share if measure == "pure" else share * share) * SHARES).astype(np.int64)
    return owed
