"""release(): the only door.

Its order is the guarantee (docs/proofs/bounded-map.md): authorise; find the stored release; reserve the global loss,
durably; fix the consents; contribute; charge each resident their own price, durably, and drop the spent; add; noise;
commit the release with its log leaf; answer. A crash after the reservation wastes budget and leaks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np

from datasov.errors import ConflictError, DatasovError, InternalError
from datasov.kernel.contribute import Exact, add, contribute, shares, total
from datasov.kernel.ledger import Ledger, Reservation
from datasov.kernel.noise import draw
from datasov.model.plan import Noised, Request
from datasov.model.shard import Integers, Part, Shard, Snapshot

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterable[Result]:
        """map, over shards."""


class Pool(Protocol):
    def snapshot(self, request: Request) -> Snapshot:
        """The consents and rows for a question as they stand now."""


def release(
    request: Request, *, authorise: Callable[[Request], None], ledger: Ledger, pool: Pool, engine: Engine,
    record: Callable[[Request, Noised], tuple[bytes, bytes]],
) -> bytes:  # fmt: skip
    """The persisted, noised output of a question: the stored one where it was answered before, at no charge.

    Args:
        authorise: raises DeniedError unless the question may be asked.
        record: the bytes to store and the public leaf, made from the noised values alone.

    Raises:
        DeniedError: from `authorise`.
        BudgetExceededError: the global budget does not cover the loss.
    """
    authorise(request)
    if (stored := ledger.stored(request.key)) is not None:
        return stored
    reservation = ledger.reserve(request.loss, request.purses)
    with opaque():
        noised = _answer(request, reservation, ledger, pool, engine)
    return ledger.commit(reservation, request.key, *record(request, noised))


@contextmanager
def opaque() -> Iterator[None]:
    """Hide what a fault that is not ours could tell of the data."""
    try:
        yield
    except DatasovError:
        raise
    except Exception:
        raise InternalError("the question could not be answered; its loss stays spent: please report it") from None


def _answer(request: Request, reservation: Reservation, ledger: Ledger, pool: Pool, engine: Engine) -> Noised:
    plan = request.plan
    while True:
        try:
            snapshot = pool.snapshot(request)
            parts = _parts(request, snapshot, engine)
            owed = np.zeros(len(snapshot.eligible), dtype=np.int64)
            for part, cost in parts:
                owed[part.first : part.first + part.residents] = cost
            pays = ledger.charge(reservation, snapshot.account, owed, snapshot.caps, snapshot.fence)
            break
        except ConflictError:
            continue

    def paid(item: tuple[Part, Integers]) -> Exact:
        part, _ = item
        return total(plan, part, pays[part.first : part.first + part.residents])

    return draw(add(engine(paid, parts), plan), plan, reservation)


def _parts(request: Request, snapshot: Snapshot, engine: Engine) -> Sequence[tuple[Part, Integers]]:
    """Each shard's bounded vectors, and what they cost each of its residents."""

    def part(shard: Shard) -> tuple[Part, Integers]:
        eligible = snapshot.eligible[shard.first : shard.first + shard.residents]
        made = contribute(request.plan, shard, eligible)
        return made, shares(request.plan, made, request.loss)

    return list(engine(part, snapshot.shards))
