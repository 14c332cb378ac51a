"""A whole log, read once and verified: every leaf is under the signed root, and its keys follow one another.

Whoever asks a log for single leaves or proofs tells it what matters to them. Who reads all of it computes every proof
at home.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasov.errors import ProofError
from datasov.model.consent import CityId
from datasov.tlog.log import LogReader
from datasov.tlog.note import Checkpoint, open_checkpoint, peek_checkpoint
from datasov.tlog.operators import Appointed, Operators, follow, notices
from datasov.tlog.tree import Tree, leaf_hash


@dataclass(frozen=True, slots=True)
class Whole:
    """All leaves of a log at one checkpoint, verified.

    Attributes:
        checkpoint: signed by the city's present key.
        leaves: their bytes.
        tree: over them.
        operators: the city's ids, as the log tells.
    """

    checkpoint: Checkpoint
    leaves: list[bytes]
    tree: Tree
    operators: Operators

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        """The audit path of a leaf."""
        return tuple(self.tree.inclusion(index, self.checkpoint.size))

    def continues(self, note: bytes) -> None:
        """Raise ProofError unless an earlier checkpoint, signed by any key that the city has had, is of this log."""
        earlier = peek_checkpoint(note)
        if earlier.size > self.checkpoint.size:
            raise ProofError("the log is shorter than it was: keep the old checkpoint as evidence and ask the city")
        earlier = signed_by(note, self.checkpoint.origin, self.operators.ids)
        if self.tree.root(earlier.size) != earlier.root:
            raise ProofError("the log is not shown to have only grown: keep both checkpoints and compare with others")


def signed_by(note: bytes, origin: str, ids: Iterable[CityId]) -> Checkpoint:
    """The checkpoint of a note that any of a city's keys has signed; ProofError where none has."""
    for city in ids:
        try:
            return open_checkpoint(note, origin, city.verify_key)
        except ProofError:
            continue
    raise ProofError("a checkpoint that none of the city's keys has signed: keep it, and ask the city")


def read_whole(log: LogReader, held: Iterable[CityId], *, appointed: Appointed | None = None) -> Whole:
    """Read and verify a log.

    Args:
        held: ids of cities, of which one is, or was, the log's.

    Raises:
        ProofError: the log is of none of them, or anything in it does not verify.
    """
    cities = tuple(held)
    note = log.checkpoint().note
    signed = peek_checkpoint(note)
    leaves = log.leaves(0, signed.size) if signed.size else []
    if len(leaves) != signed.size:
        raise ProofError("the log has fewer leaves than its checkpoint says: ask for its checkpoint again")
    operators = follow(notices(leaves), signed.origin, cities, appointed=appointed)
    if not any(operators.known(city) for city in cities):
        raise ProofError("not the log of a city whose id you hold: ask that city for its log")
    checkpoint = open_checkpoint(note, signed.origin, operators.key)
    tree = Tree(leaf_hash(leaf) for leaf in leaves)
    if tree.root() != checkpoint.root:
        raise ProofError("the leaves are not those that the log signed: keep the checkpoint, and ask the city")
    past = [*((i, s.size, s.root) for i, s in operators.successions),
            *((i, r.size, r.root) for i, r in operators.restorations)]  # fmt: skip
    if any(tree.root(size) != root for _, size, root in past):
        raise ProofError("an operator's notice names another log than the one it stands in: keep the log as evidence")
    return Whole(checkpoint, leaves, tree, operators)
