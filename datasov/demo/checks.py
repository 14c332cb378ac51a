"""What a resident checks afterwards, and what the city refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from datasov.city import City
from datasov.demo.people import Enrolled, vault_path
from datasov.demo.questions import PURPOSE, Question
from datasov.errors import DatasovError, InternalError
from datasov.model.privacy import Loss, zcdp
from datasov.resident import Resident
from datasov.tlog.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Checks:
    """One resident's receipts.

    Attributes:
        household: whose; receipts: how many, each verified; spent: what all of them cost this resident, at most.
        granted: what the resident allowed. leaf: why the receipt with one byte of its leaf changed was refused;
        checkpoint: the same for one byte of the checkpoint.
    """

    household: int
    receipts: int
    spent: Loss
    granted: Loss
    leaf: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was tried, and why it was refused."""

    tried: str
    error: str
    reason: str


def check_receipts(folder: Path, household: Enrolled, city: City) -> Checks:
    """Open one vault again, verify all its receipts against the log, then tamper with one byte at a time."""
    with Resident.open(vault_path(folder, household.id), device_key=household.key) as resident:
        receipts, granted = resident.receipts(city.log), resident.granted
    checkpoint = city.log.checkpoint()
    for receipt in receipts:
        receipt.verify(checkpoint)
    last = receipts[-1]
    signature = checkpoint.note.rindex(b" ") + 20
    return Checks(
        household.id, len(receipts), Loss(sum(r.loss.nano for r in receipts)), granted,
        _refused(lambda: _tampered(last).verify(checkpoint)),
        _refused(lambda: last.verify(_flip(checkpoint.note, signature))),
    )  # fmt: skip


def _tampered(receipt: Receipt) -> Receipt:
    return replace(receipt, leaf=_flip(receipt.leaf, len(receipt.leaf) // 2))


def _flip(data: bytes, at: int) -> bytes:
    """One byte changed, to another letter or digit where it was one: the form stays, the content does not."""
    other = b"B" if data[at : at + 1] == b"A" else b"A" if data[at : at + 1].isalnum() else bytes([data[at] ^ 1])
    return data[:at] + other + data[at + 1 :]


def refusals(city: City, question: Question) -> tuple[Refusal, ...]:
    """Two questions that the city may not answer."""
    more = Loss(city.remaining.nano + zcdp(rho="0.25").nano)
    return (
        Refusal(
            "the first question again, for the purpose 'credit-scoring'",
            *_named(lambda: city.release(question.query, loss=question.loss, purpose="credit-scoring")),
        ),
        Refusal(
            f"the first question for {more}, with {city.remaining} left",
            *_named(lambda: city.release(question.query, loss=more, purpose=PURPOSE)),
        ),
    )


def _refused(attempt: Callable[[], object]) -> str:
    error, reason = _named(attempt)
    return f"{error}: {reason}"


def _named(attempt: Callable[[], object]) -> tuple[str, str]:
    try:
        attempt()
    except DatasovError as refused:
        return type(refused).__name__, str(refused)
    raise InternalError("the demo expected a refusal")
