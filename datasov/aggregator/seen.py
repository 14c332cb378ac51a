"""Which nonces and nullifiers of a task were seen: 8 bytes each, in sorted runs that grow by merging."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class Seen:
    """A set of byte strings by 64 bits of their SHA-256.

    Two different ones look the same with a probability of about 2^-64 for each that was seen before: a report is then
    refused, which biases nothing that somebody could choose.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []
        self._fresh: set[int] = set()

    def __contains__(self, item: bytes) -> bool:
        word = _word(item)
        if word in self._fresh:
            return True
        wanted = np.uint64(word)
        for run in self._runs:
            at = int(np.searchsorted(run, wanted))
            if at < len(run) and run[at] == wanted:
                return True
        return False

    def add(self, item: bytes) -> None:
        """Mark as seen."""
        self._fresh.add(_word(item))
        if len(self._fresh) >= 4096:
            self._settle()

    def update(self, items: Iterable[bytes]) -> None:
        """Mark all as seen."""
        for item in items:
            self.add(item)

    def _settle(self) -> None:
        run = np.array(sorted(self._fresh), dtype=np.uint64)
        self._fresh.clear()
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)


def _word(item: bytes) -> int:
    return int.from_bytes(hashlib.sha256(item).digest()[:8], "little")
