"""What a resident finds in a log of the erasure of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasov.authority import messages
from datasov.authority.held import Record
from datasov.model.consent import Consent
from datasov.tlog import erasures, scan
from datasov.tlog.whole import Whole


@dataclass(frozen=True, slots=True)
class Erasure:
    """A city says in its log that the rows of one contribution are gone from its pool.

    Attributes:
        number: of the contribution under the consent, from 1.
        time: Unix seconds of the call that erased what was still there of them, and then gave the notice.
        index: of the notice in the log.
    """

    consent: Consent
    number: int
    time: int
    index: int


def erased(whole: Whole, mine: Sequence[tuple[Record, int]]) -> list[Erasure]:
    """The erasures that a whole log tells of, for records and the number of contributions under each, in its order."""
    wanted = {
        messages.salted(r.salt, messages.erasure_record(r.consent.digest, n)): (r.consent, n)
        for r, many in mine
        for n in range(1, many + 1)
    }
    found = list[Erasure]()
    for index, leaf in sorted(scan.notices(whole.leaves).values(), key=lambda pair: pair[0]):
        told = erasures.hashes(leaf) & wanted.keys()
        for consent, number in sorted((wanted[h] for h in told), key=lambda pair: pair[1]):
            found.append(Erasure(consent, number, leaf.time, index))
    return found
