"""What a disk may hold after a power failure: a trace of system calls, and the states that it allows.

The model is strict POSIX. What a file holds is safe once the file is flushed; a name made, replaced or taken away is
safe once its directory is flushed. Of all else since, any part may have reached the medium, in any order, and a write
in part: cut short, with the length but zeros for the data, or with zeros for a sector.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SECTOR = 512
ALL_SUBSETS = 4
"""Up to so many calls that are not flushed, every subset of them is tried."""


@dataclass(frozen=True)
class Call:
    """`what` happened to the file `inode` or to the names in `folder`."""

    what: str
    inode: int = -1
    folder: str = ""
    name: str = ""
    source: str = ""
    at: int = 0
    data: bytes = b""


@dataclass
class Trace:
    """The calls of one process on the files under a directory, and what was there before."""

    root: Path
    calls: list[Call] = field(default_factory=list)
    base: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = {str(f.relative_to(self.root)): f.read_bytes() for f in self.root.rglob("*") if f.is_file()}
        self.names = {name: i for i, name in enumerate(self.base)}
        self._next, self._open = len(self.names), dict[int, tuple[int, str, int]]()

    def mark(self) -> None:
        """The operation that is under way returned."""
        self.calls.append(Call("returned"))

    @contextmanager
    def recording(self) -> Iterator[None]:
        called = ("open", "write", "close", "ftruncate", "posix_fallocate", "fsync", "fdatasync", "rename", "unlink")
        real = {name: getattr(os, name) for name in called}

        def inside(path: Any) -> str | None:
            given = Path(os.fspath(path))
            return str(given.relative_to(self.root)) if given.is_relative_to(self.root) else None

        def folder(name: str) -> str:
            return str(Path(name).parent)

        def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            fd, name = int(real["open"](path, flags, *rest, **more)), inside(path)
            self._open.pop(fd, None)
            if name is not None and Path(path).is_dir():
                self._open[fd] = -1, name, 0
            elif name is not None:
                if name not in self.names:
                    self.names[name], self._next = self._next, self._next + 1
                    self.calls.append(Call("create", self.names[name], folder(name), name))
                self._open[fd] = self.names[name], name, 0
            return fd

        def write(fd: int, data: Any) -> int:
            count = int(real["write"](fd, data))
            if fd in self._open:
                inode, name, at = self._open[fd]
                self.calls.append(Call("write", inode, at=at, data=bytes(data[:count])))
                self._open[fd] = inode, name, at + count
            return count

        def close(fd: int) -> None:
            self._open.pop(fd, None)
            real["close"](fd)

        def sized(what: str) -> Any:
            def call(fd: int, *sizes: int) -> None:
                real[what](fd, *sizes)
                if fd in self._open:
                    self.calls.append(Call(what, self._open[fd][0], at=sum(sizes)))

            return call

        def flushed(what: str) -> Any:
            def call(fd: int) -> None:
                if fd in self._open:
                    inode, name, _ = self._open[fd]
                    self.calls.append(Call("flush", inode, folder=name if inode < 0 else ""))

            return call

        def rename(source: Any, target: Any) -> None:
            real["rename"](source, target)
            old, new = inside(source), inside(target)
            assert old is not None and new is not None and folder(old) == folder(new)  # noqa: PT018
            self.names[new] = self.names.pop(old)
            self.calls.append(Call("rename", self.names[new], folder(new), new, old))

        def unlink(path: Any, **more: Any) -> None:
            real["unlink"](path, **more)
            name = inside(path)
            if name is not None:
                self.calls.append(Call("unlink", self.names.pop(name), folder(name), name))

        fakes = {"open": opened, "write": write, "close": close, "rename": rename, "unlink": unlink}
        fakes |= {name: sized(name) for name in ("ftruncate", "posix_fallocate")}
        fakes |= {name: flushed(name) for name in ("fsync", "fdatasync")}
        with pytest.MonkeyPatch.context() as patch:
            for name, fake in fakes.items():
                patch.setattr(os, name, fake)
            yield

    def states(self) -> Iterator[tuple[int, dict[str, bytes]]]:
        """(operations that had returned, files) of every state that a failure after each call may leave; each once."""
        seen = set[tuple[int, int]]()
        for end in range(len(self.calls) + 1):
            calls = self.calls[:end]
            returned = sum(call.what == "returned" for call in calls)
            for files in self._left(calls):
                mark = (returned, hash(frozenset(files.items())))
                if mark not in seen:
                    seen.add(mark)
                    yield returned, files

    def _left(self, calls: list[Call]) -> Iterator[dict[str, bytes]]:
        flushed_files, flushed_folders, loose = set[int](), set[str](), list[int]()
        for i, call in reversed(list(enumerate(calls))):
            if call.what == "flush" and call.inode < 0:
                flushed_folders.add(call.folder)
            elif call.what == "flush":
                flushed_files.add(call.inode)
            elif call.what in ("create", "rename", "unlink"):
                loose += [] if call.folder in flushed_folders else [i]
            elif call.what != "returned":
                loose += [] if call.inode in flushed_files else [i]
        loose.reverse()
        for some in _subsets(loose):
            dropped = frozenset(loose) - frozenset(some)
            yield self._apply(calls, dropped, {})
            torn = [i for i in some if calls[i].what == "write"]
            for i in torn[-1:]:
                for data in _torn(calls[i]):
                    yield self._apply(calls, dropped, {i: data})

    def _apply(self, calls: list[Call], dropped: frozenset[int], changed: dict[int, bytes]) -> dict[str, bytes]:
        names = {name: i for i, name in enumerate(self.base)}
        data = {i: bytearray(self.base[name]) for name, i in names.items()}
        for i, call in enumerate(calls):
            if i in dropped:
                continue
            held = data.setdefault(call.inode, bytearray())
            if call.what in ("create", "rename"):
                names.pop(call.source, None)
                names[call.name] = call.inode
            elif call.what == "unlink":
                names.pop(call.name, None)
            elif call.what == "write":
                new = changed.get(i, call.data)
                held.extend(bytes(max(0, call.at - len(held))))
                held[call.at : call.at + len(new)] = new
            elif call.what == "posix_fallocate":
                held.extend(bytes(max(0, call.at - len(held))))
            elif call.what == "ftruncate":
                del held[call.at :]
        return {name: bytes(data[inode]) for name, inode in names.items()}


def _subsets(items: list[int]) -> list[tuple[int, ...]]:
    """All subsets of a few; of more, all prefixes, all without one, and each alone."""
    if len(items) <= ALL_SUBSETS:
        return [some for size in range(len(items) + 1) for some in itertools.combinations(items, size)]
    found = [tuple(items[:end]) for end in range(len(items) + 1)]
    found += [tuple(item for item in items if item != lost) for lost in items]
    return [*found, *((item,) for item in items)]


def _torn(call: Call) -> Iterator[bytes]:
    """A write in part."""
    size = len(call.data)
    for cut in {size // 3, size - 1, min(10, size - 1)}:
        yield call.data[:cut]
        yield call.data[:cut] + bytes(size - cut)
    for start in range(-call.at % SECTOR, size, SECTOR):
        yield call.data[:start] + bytes(min(SECTOR, size - start)) + call.data[start + SECTOR :]


def put_down(files: dict[str, bytes], path: Path, folders: tuple[str, ...]) -> None:
    """Write a state out; the folders are there even where they are empty."""
    for name in folders:
        (path / name).mkdir(parents=True)
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
