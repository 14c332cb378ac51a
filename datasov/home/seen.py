"""What a city's log says to a vault, all of it verified here; or why it is not to be believed."""

from __future__ import annotations

from dataclasses import dataclass

from datasov.admitted import Sent
from datasov.erased import Erasure
from datasov.errors import DatasovError, VerificationError
from datasov.home.logs import Source
from datasov.model.consent import CityId, Consent
from datasov.notices import Notice
from datasov.resident import Resident
from datasov.tlog.operators import Operators
from datasov.tlog.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Shown:
    """A receipt, and what is wrong with it; nothing where it is verified."""

    receipt: Receipt
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """One log, as it was read.

    Attributes:
        source: where it was read, for people.
        fault: why none of it counts; empty where the log verifies.
        forged: whether the fault is that something does not verify, and not that nothing could be read.
        size: leaves under the checkpoint.
        receipts: newest first.
        notices: the charters, programmes and emergencies, newest first.
        unapproved: why the notices do not hold together, where they do not: then there are none here.
        sent: of every contribution, whether the log tells that it was admitted. ended: the revoked consents of which
            it tells that the city ended them.
    """

    source: str
    fault: str = ""
    forged: bool = False
    operators: Operators | None = None
    size: int = 0
    receipts: tuple[Shown, ...] = ()
    notices: tuple[Notice, ...] = ()
    unapproved: str = ""
    erasures: tuple[Erasure, ...] = ()
    sent: tuple[Sent, ...] = ()
    ended: tuple[Consent, ...] = ()

    @property
    def city(self) -> str:
        """The city's name, as its present id says it; empty where the log did not verify."""
        return "" if self.operators is None else self.operators.ids[-1].name

    @property
    def emergencies(self) -> list[Notice]:
        return [n for n in self.notices if n.subject == "emergency"]

    def verified(self) -> list[Receipt]:
        """The receipts that count."""
        return [s.receipt for s in self.receipts if not s.fault]


def look(resident: Resident, source: Source) -> Seen:
    """Read a log whole, and verify all that concerns this vault."""
    held = list(dict.fromkeys(c.claims.audience for c in (*resident.consents, *resident.revoked)))
    if not held:
        return Seen(source.name)
    try:
        with source.open([CityId.parse(text) for text in held]) as log:
            found = resident.receipts(log)
            operators, checkpoint = resident.operators(log), log.checkpoint()
            erasures, sent, ended = resident.erasures(log), resident.sent(log), resident.ended(log)
            try:
                notices, unapproved = tuple(reversed(resident.notices(log))), ""
            except VerificationError as why:
                notices, unapproved = (), str(why)
            shown = tuple(Shown(r, _fault(r, checkpoint.note)) for r in reversed(found))
    except DatasovError as why:
        return Seen(source.name, str(why), isinstance(why, VerificationError))
    except Exception as fault:
        # Whatever a log makes the reading of it do, the page stays: its buttons are what ends a consent.
        return Seen(source.name, f"the log cannot be read ({type(fault).__name__}): ask its city, or update datasov")
    return Seen(
        source.name, operators=operators, size=checkpoint.size, receipts=shown, notices=notices,
        unapproved=unapproved, erasures=tuple(reversed(erasures)), sent=tuple(sent), ended=tuple(ended),
    )  # fmt: skip


def _fault(receipt: Receipt, note: bytes) -> str:
    try:
        receipt.verify(note)
    except VerificationError as why:
        return str(why)
    return ""
