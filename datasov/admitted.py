"""What a resident finds in a log of what they sent: the public answer to a letter, the same for everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasov.authority import messages
from datasov.authority.held import DAY, Record, day, sent
from datasov.model.consent import Consent
from datasov.tlog import scan
from datasov.tlog.whole import Whole


@dataclass(frozen=True, slots=True)
class Sent:
    """Whether a city's log tells that it admitted a contribution.

    What was sent in a tick is taken up in the next one, and told of when that one is over. A contribution that the log
    does not tell of by then was refused, or a later one took its place.

    Attributes:
        number: of the contribution under the consent, from 1.
        admitted: whether its salted hash stands in a batch of the log.
    """

    consent: Consent
    number: int
    admitted: bool


def told(whole: Whole, mine: Sequence[tuple[Record, int]]) -> list[Sent]:
    """Of every contribution under the records, of which there were so many each, whether a whole log tells of it."""
    hashes = {(r.consent.digest, n): h for r, many in mine for n, h in sent(r, range(1, many + 1))}
    found = scan.batched(whole.leaves, "admissions", hashes.values())
    return [
        Sent(r.consent, n, hashes[r.consent.digest, n] in found) for r, many in mine for n in range(1, many + 1)
    ]  # fmt: skip


def ended(whole: Whole, mine: Sequence[Record], now: float) -> list[Consent]:
    """Those of the revoked consents among the records of which a whole log tells that the city ended them.

    A revocation names the day on which it was signed: each one from the consent's own on is looked for, and the next
    one too, of a device whose clock is ahead.

    Args:
        now: Unix seconds.
    """
    hashes = {
        messages.salted(r.salt, messages.revocation_record(r.consent.digest, at)): r.consent
        for r in mine if r.revoked
        for at in range(day(r.consent.claims.issued), day(now) + 2 * DAY, DAY)
    }  # fmt: skip
    found = {hashes[h].digest for h in scan.batched(whole.leaves, "revocations", hashes)}
    return [r.consent for r in mine if r.consent.digest in found]
