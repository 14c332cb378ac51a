"""Open tasks as a city's gateway lists them: each with its place in the city's log. docs/spec/two-server.md"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasov.errors import ProofError, VerificationError
from datasov.mpc.task import MOST_TASK, SUBJECT, Task, read_task
from datasov.tlog.leaves import NoticeLeaf, encode_leaf
from datasov.tlog.note import MAX_NOTE, Checkpoint
from datasov.tlog.tree import leaf_hash, verify_inclusion
from datasov.wire import cbor, fields

KIND = "datasov tasks v1"
MOST, MOST_TASKS = 64 * 1024 * 1024, 65_536
"""Bytes in a list, and tasks."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A signed task, the index of its leaf in the log, and the leaf's audit path."""

    task: bytes
    index: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The open tasks of a city under one checkpoint of its log, whose note this holds. Nothing in it is believed."""

    note: bytes
    entries: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode([KIND, self.note, [[e.task, e.index, list(e.proof)] for e in self.entries]])

    @staticmethod
    def from_bytes(data: bytes) -> Listed:
        """The list of these bytes; ProofError where they are none."""
        malformed = ProofError("not a list of a city's tasks: ask the gateway for it again")
        if not isinstance(data, bytes) or len(data) > MOST:
            raise malformed
        try:
            kind, note, entries = fields.items(cbor.decode(data), 3, 3)
            found = tuple(map(_entry, fields.items(entries, 0, MOST_TASKS)))
            if kind != KIND:
                raise malformed
            return Listed(fields.blob(note, MAX_NOTE), found)
        except ProofError:
            raise
        except VerificationError:
            raise malformed from None

    def verified(self, checkpoint: Checkpoint) -> list[Task]:
        """The tasks, once each stands in the log under this checkpoint, whose signature the caller checked.

        Raises:
            ProofError: one does not. VerificationError: (or its subclasses) one is no task that its city signed.
        """
        return [self._task(entry, checkpoint) for entry in self.entries]

    def _task(self, entry: Entry, checkpoint: Checkpoint) -> Task:
        task = read_task(entry.task)
        verify_inclusion(leaf_hash(leaf(task, entry.task)), entry.index, checkpoint.size, entry.proof, checkpoint.root)
        return task


def _entry(value: object) -> Entry:
    task, index, proof = fields.items(value, 3, 3)
    hashes = tuple(fields.octets(h, 32) for h in fields.items(proof, 0, 63))
    return Entry(fields.blob(task, MOST_TASK), fields.integer(index, 0, 2**63 - 1), hashes)


def leaf(task: Task, signed: bytes) -> bytes:
    """The leaf by which a task stands in its city's log."""
    return encode_leaf(NoticeLeaf(SUBJECT, task.opened, task.id, signed))


def indices(leaves: Iterable[tuple[int, bytes]], tasks: Iterable[bytes]) -> dict[bytes, int]:
    """Where the leaves of signed tasks stand, by the tasks' bytes; one that is not among the leaves is left out."""
    wanted = {leaf(read_task(signed), signed): signed for signed in tasks}
    return {wanted[data]: index for index, data in leaves if data in wanted}
