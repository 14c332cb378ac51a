"""release(): the only door.

Its order is the guarantee (docs/proofs/bounded-map.md): authorise; find the stored release; reserve the global loss,
durably; fix the consents; contribute; charge each resident their own price, durably, and drop the spent; add; noise;
commit the release with its log leaf; answer. A crash after the reservation wastes budget and leaks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from datasov.errors import ConflictError, DatasovError, InternalError
from datasov.kernel.contribute import Exact, add, contribute, shares, total
from datasov.kernel.ledger import Ledger, Mask, Reservation
from datasov.kernel.noise import Noised, draw
from datasov.kernel.plan import Plan
from datasov.model.document import digest
from datasov.model.privacy import Loss, Trust
from datasov.model.shard import Integers, Part, Shard

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterable[Result]:
        """map, over shards."""


@dataclass(frozen=True, slots=True)
class Request:
    """A compiled question with all that makes it this question and no other."""

    plan: Plan
    loss: Loss
    purpose: str
    trust: Trust
    epoch: int
    programme: str = ""

    @property
    def key(self) -> bytes:
        """The key of its stored release: 32 bytes."""
        return digest(self.document())

    def document(self) -> dict[str, Any]:
        """All that the key is made of."""
        return {
            "query": self.plan.query.document(), "rows": self.plan.rows, "bound_keys": self.plan.keys,
            "index": self.plan.index, "blind": self.plan.blind, "mechanism": self.plan.mechanism(self.loss),
            "loss": self.loss.document(),
            "trust": self.trust.document(), "purpose": self.purpose, "programme": self.programme, "epoch": self.epoch,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The consents as they stand, and the rows under them.

    Attributes:
        account: name of the list of residents.
        fence: streams and the lengths at which all this was true.
        eligible: one entry a resident: whether their live consent covers the question.
        caps: its most nano and delta in all; shape (2, residents).
        shards: the pooled rows.
    """

    account: str
    fence: Mapping[str, int]
    eligible: Mask
    caps: Integers
    shards: Sequence[Shard]


class Pool(Protocol):
    def snapshot(self, request: Request) -> Snapshot:
        """The consents and rows for a question as they stand now."""


def release(
    request: Request,
    *,
    authorise: Callable[[Request], None],
    ledger: Ledger,
    pool: Pool,
    engine: Engine,
    record: Callable[[Request, Noised], tuple[bytes, bytes]],
) -> bytes:
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
    reservation = ledger.reserve(request.loss)
    try:
        noised = _answer(request, reservation, ledger, pool, engine)
    except DatasovError:
        raise
    except Exception:
        raise InternalError("the question could not be answered; its loss stays spent: please report it") from None
    return ledger.commit(reservation, request.key, *record(request, noised))


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
