"""Columns that grow, and indexes over them: what a city holds of a consent in memory, some 200 bytes.

Nothing here is a Python object for each consent. A column is one NumPy array; an index is a few sorted arrays with
the places beside them, and a small dict of what came last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Integers: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

_LEAST, _RATIO = 1024, 8


class Columns:
    """Arrays of one length that grow together, by an eighth at a time.

    Args:
        kinds: name to NumPy's name of the entries, or to (that name, width) where an entry has several.
    """

    __slots__ = ("_arrays", "_room", "size")

    def __init__(self, kinds: Mapping[str, str | tuple[str, int]]) -> None:
        self.size, self._room = 0, 0
        self._arrays: dict[str, Array] = {}
        for name, kind in kinds.items():
            width = () if isinstance(kind, str) else (kind[1],)
            self._arrays[name] = np.zeros((0, *width), dtype=kind if isinstance(kind, str) else kind[0])

    def __getitem__(self, name: str) -> Array:
        """The column, as long as `size`: a view to read from and write to."""
        return self._arrays[name][: self.size]

    def grow(self, size: int) -> None:
        """Make room, and fill it with zeros."""
        if size > self._room:
            self._room = max(_LEAST, size + size // 8)
            for name, array in self._arrays.items():
                wider = np.zeros((self._room, *array.shape[1:]), dtype=array.dtype)
                wider[: self.size] = array[: self.size]
                self._arrays[name] = wider
        self.size = max(self.size, size)

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        return sum(array.nbytes for array in self._arrays.values())


class Index:
    """Numbers of 64 bits to the places that have them. A number may stand for several places; none is ever removed.

    Sorted runs, each several times as long as the next, and a dict of the few that came last.
    """

    __slots__ = ("_recent", "_runs", "_waiting")

    def __init__(self) -> None:
        self._runs: list[tuple[Words, Array]] = []
        self._recent: dict[int, list[int]] = {}
        self._waiting = 0

    def add(self, numbers: Array, places: Array) -> None:
        """Add pairs, of which those may stand there already."""
        if len(numbers) + self._waiting < _LEAST:
            for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
                self._recent.setdefault(number, []).append(place)
            self._waiting += len(numbers)
            return
        came = [(n, p) for n, held in self._recent.items() for p in held]
        waiting = np.array([n for n, _ in came], dtype=np.uint64), np.array([p for _, p in came], dtype=np.uint32)
        self._recent, self._waiting = {}, 0
        run = _sorted((*waiting, numbers.astype(np.uint64), places.astype(np.uint32)))
        while self._runs and len(self._runs[-1][0]) <= _RATIO * len(run[0]):
            run = _sorted((*self._runs.pop(), *run))
        self._runs.append(run)

    def __getitem__(self, number: int) -> list[int]:
        """All places of a number, in no order."""
        found = list(self._recent.get(number, ()))
        for numbers, places in self._runs:
            at = int(np.searchsorted(numbers, np.uint64(number)))
            while at < len(numbers) and int(numbers[at]) == number:
                found.append(int(places[at]))
                at += 1
        return found

    def __contains__(self, number: int) -> bool:
        return bool(self[number])

    def holds(self, numbers: Array) -> npt.NDArray[np.bool_]:
        """Which of many numbers stand for a place; shape as theirs."""
        asked = numbers.astype(np.uint64)
        found = np.isin(asked, np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent)))
        for held, _ in self._runs:
            found |= held[np.minimum(np.searchsorted(held, asked), len(held) - 1)] == asked
        return found

    @property
    def bytes(self) -> int:
        """What the sorted arrays take."""
        return sum(numbers.nbytes + places.nbytes for numbers, places in self._runs)


def _sorted(pairs: tuple[Words, Array, Words, Array]) -> tuple[Words, Array]:
    numbers = np.concatenate([pairs[0], pairs[2]])
    order = np.argsort(numbers, kind="stable")
    return numbers[order], np.concatenate([pairs[1], pairs[3]])[order]


class Places(Mapping[bytes, int]):
    """The place of each account key (32 bytes), as a mapping. Finding one looks at all that share its first 8 bytes."""

    __slots__ = ("_columns", "_index")

    def __init__(self, columns: Columns) -> None:
        self._columns, self._index = columns, Index()

    def add(self, keys: Array, first: int) -> None:
        """Index keys, shape (n, 32), which stand in column `account` from place `first` on."""
        self._index.add(heads(keys), np.arange(first, first + len(keys)))

    def __getitem__(self, key: bytes) -> int:
        accounts = self._columns["account"]
        for place in self._index[int.from_bytes(key[:8], "little")]:
            if accounts[place].tobytes() == key:
                return place
        raise KeyError(key)

    def maybe(self, keys: Array) -> npt.NDArray[np.bool_]:
        """Of many keys, shape (n, 32), which share their first 8 bytes with one that has a place."""
        return self._index.holds(heads(keys))

    def __iter__(self) -> Iterator[bytes]:
        return (key.tobytes() for key in self._columns["account"])

    def __len__(self) -> int:
        return self._columns.size

    @property
    def bytes(self) -> int:
        """What the index takes beside the column."""
        return self._index.bytes


def heads(keys: Array) -> Words:
    """The first 8 bytes of each of many byte strings, shape (n, width), as numbers."""
    return np.ascontiguousarray(keys[:, :8]).view("<u8").reshape(-1)
