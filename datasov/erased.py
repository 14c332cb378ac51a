"""What a resident finds in a log of the erasure of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasov.authority import messages
from datasov.authority.held import Record
from datasov.model.consent import CityId, Consent
from datasov.tlog import erasures
from datasov.tlog.leaves import NoticeLeaf, decode_leaf
from datasov.tlog.log import LogReader
from datasov.tlog.note import open_checkpoint, origin_of
from datasov.tlog.tree import leaf_hash, verify_inclusion


@dataclass(frozen=True, slots=True)
class Erasure:
    """A city says in its log that the rows of one contribution are gone from its pool.

    Attributes:
        number: of the contribution under the consent, from 1.
        time: Unix seconds by which they were gone.
        index: of the notice in the log.
    """

    consent: Consent
    number: int
    time: int
    index: int


def erased(log: LogReader, mine: Sequence[tuple[Record, int]]) -> list[Erasure]:
    """The erasures that a log tells of, for records and the number of contributions under each, in the log's order.

    Raises:
        ProofError: another key signed the checkpoint, or a notice that tells of one is not in its tree.
    """
    checkpoint, found = log.checkpoint(), list[Erasure]()
    cities = {origin_of(CityId.parse(a).verify_key): a for a in {r.consent.claims.audience for r, _ in mine}}
    audience = cities.get(checkpoint.origin)
    if audience is None:
        return found
    signed = open_checkpoint(checkpoint.note, checkpoint.origin, CityId.parse(audience).verify_key)
    wanted = {
        messages.salted(r.salt, messages.erasure_record(r.consent.digest, n)): (r.consent, n)
        for r, many in mine
        for n in range(1, many + 1)
    }
    for index, data in enumerate(log.leaves(0, signed.size)):
        leaf = decode_leaf(data)
        if not isinstance(leaf, NoticeLeaf) or not (told := erasures.hashes(leaf) & wanted.keys()):
            continue
        verify_inclusion(leaf_hash(data), index, signed.size, log.inclusion(index, signed.size), signed.root)
        for consent, number in sorted((wanted[h] for h in told), key=lambda pair: pair[1]):
            found.append(Erasure(consent, number, leaf.time, index))
    return found
