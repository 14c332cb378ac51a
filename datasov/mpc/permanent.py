"""One report for each question and renewal: what a device said once it says again, and averaging gains nothing.

The report stays until the next renewal, and renewals come on a public schedule, for everybody, whether or not the data
changed. A report that was drawn anew when the data change would tell by itself that they did, and no epsilon covers
that: docs/proofs/local.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from datasov.authority.held import NOISED
from datasov.errors import InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model.document import digest
from datasov.model.plan import Plan
from datasov.model.privacy import Loss
from datasov.model.query import Query
from datasov.model.shard import Integers
from datasov.mpc.local import Fit, check, fit, randomise

NOTE = NOISED
"""What the names of a vault's notes of reports begin with."""


def renewal(epoch: int, every: int) -> int:
    """The number of renewals before a public data epoch, where reports are drawn anew every so many; 0 is never.

    Raises:
        InvalidQueryError: numbers below zero.
    """
    if epoch < 0 or every < 0:
        raise InvalidQueryError("epochs are counted from 0, and renewals come every so many of them; 0 is never")
    return epoch // every if every else 0


def longitudinal(loss: Loss, renewals: int) -> Loss:
    """What so many renewals of one question cost a resident, on top of the first report: each costs it whole."""
    return Loss(loss.nano * (renewals + 1), loss.measure)


@dataclass(frozen=True)
class Asked:
    """A question to devices under local trust, as everybody knows it.

    Attributes:
        city: text of the id of the city that asks.
        renewal: see :func:`renewal`.
    """

    city: str
    query: Query
    loss: Loss
    purpose: str
    renewal: int = 0

    @cached_property
    def plan(self) -> Plan:
        """The compiled question."""
        return compile(self.query)

    @cached_property
    def fit(self) -> Fit:
        """What it is under local trust; InvalidQueryError where it is nothing."""
        return fit(self.plan, self.loss)

    @cached_property
    def note(self) -> str:
        """The name under which a vault keeps its report: of all that makes the question, but for times and asking."""
        loss = self.loss.document()
        return NOTE + digest([self.city, self.query.document(), loss, self.purpose, self.renewal]).hex()

    def report(self, kept: bytes | None, vectors: Sequence[Integers] | None) -> tuple[bytes, Loss]:
        """The device's report, and what it costs its owner, to be charged and kept durably before it leaves.

        Args:
            kept: what the vault keeps under `note`: it is the report, and costs nothing more.
            vectors: the owner's dense vectors, one a statistic; None: they refuse, do not consent, or have nothing left
                to spend. A null report tells nothing of the data and costs nothing. It stands until the next renewal.

        Raises:
            InvalidQueryError: the question is none of local trust.
        """
        if kept is not None:
            check(self.fit.how, kept)
            return kept, Loss(0, self.loss.measure)
        category = None if vectors is None else self.fit.category(vectors)
        return randomise(category, self.fit.how, self.loss), Loss(0 if vectors is None else self.loss.nano, "pure")
