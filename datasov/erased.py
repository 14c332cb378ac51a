"""What a resident finds in a log of the erasure of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasov.authority import messages
from datasov.authority.held import Record
from datasov.model.consent import Consent
from datasov.tlog import erasures
from datasov.tlog.leaves import Leaf, NoticeLeaf
from datasov.tlog.log import LogReader
from datasov.tlog.note import Checkpoint
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


def erased(
    log: LogReader, checkpoint: Checkpoint, leaves: Sequence[Leaf], mine: Sequence[tuple[Record, int]]
) -> Iterator[Erasure]:
    """The erasures that the log's notices tell of, for records and the number of contributions under each.

    Raises:
        ProofError: a notice that tells of one is not in the tree of the checkpoint.
    """
    wanted = {
        messages.salted(r.salt, messages.erasure_record(r.consent.digest, n)): (r.consent, n)
        for r, many in mine
        for n in range(1, many + 1)
    }
    for index, leaf in enumerate(leaves):
        told = erasures.hashes(leaf) & wanted.keys() if isinstance(leaf, NoticeLeaf) else frozenset[bytes]()
        if told and isinstance(leaf, NoticeLeaf):
            (data,) = log.leaves(index, index + 1)
            path = log.inclusion(index, checkpoint.size)
            verify_inclusion(leaf_hash(data), index, checkpoint.size, path, checkpoint.root)
            for consent, number in sorted((wanted[h] for h in told), key=lambda found: found[1]):
                yield Erasure(consent, number, leaf.time, index)
