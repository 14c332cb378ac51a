"""Which nonces and nullifiers of a task were seen: 8 bytes each, in sorted runs that grow by merging."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Digests = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.uint64]


def digests(items: Sequence[bytes]) -> Digests:
    """The SHA-256 of each, (items, 32)."""
    sha256 = hashlib.sha256
    joined = b"".join([sha256(item).digest() for item in items])
    return np.frombuffer(joined, np.uint8).reshape(len(items), 32)


def marks(found: Digests) -> Marks:
    """What is kept of each digest: its first 8 bytes."""
    return np.ascontiguousarray(found[:, :8]).view("<u8")[:, 0].astype(np.uint64, copy=False)


class Seen:
    """A set of byte strings by 64 bits of their SHA-256 (:func:`marks`), a batch at a time.

    Two different ones look the same with a probability of about 2^-64 for each that was seen before: a report is then
    refused, which biases nothing that somebody could choose.
    """

    def __init__(self) -> None:
        self._runs: list[Marks] = []

    def known(self, wanted: Marks) -> npt.NDArray[np.bool_]:
        """Which of them were seen."""
        found = np.zeros(len(wanted), np.bool_)
        for run in self._runs:
            at = np.searchsorted(run, wanted)
            found |= run[np.minimum(at, len(run) - 1)] == wanted
        return found

    def add(self, fresh: Marks) -> None:
        """Mark them as seen."""
        run = np.sort(fresh)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        if len(run):
            self._runs.append(run)
