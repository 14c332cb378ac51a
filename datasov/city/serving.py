"""What serves a city to many askers keeps: its stored answers by their identifiers, and which retry is of what."""

from __future__ import annotations

import bisect
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from datasov.city.asking import Asking
from datasov.crypto.kdf import sha256
from datasov.errors import ConflictError, ProgrammeError
from datasov.kernel.ledger import KEY
from datasov.model.document import digest
from datasov.model.release import Release
from datasov.model.series import SeriesRelease
from datasov.tlog.record import unpack_release, unpack_series
from datasov.wire import cbor, fields

KEPT = 30 * 86_400
"""Seconds for which a retry is known by its key."""
LEASE = 120
"""Seconds after which a request that ended without a word, as when its process died, may be made again."""
_STREAM = "gateway/retries"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored answer in a list: `place` counts from 0, `kind` is "release" or "series"; time in Unix seconds."""

    place: int
    identifier: str
    kind: str
    table: str
    purpose: str
    programme: str
    time: int
    loss: dict[str, Any]
    epoch: int


class Shelf:
    """The stored answers of an open city, as any of its processes and threads sees them."""

    def __init__(self, city: Asking) -> None:
        self._city, self._lock = city, threading.Lock()
        self._items: list[Stored] = []
        self._by_id: dict[str, Stored] = {}
        self._read = 0

    def find(self, identifier: str) -> Release | SeriesRelease | None:
        """The answer with this identifier (32 hexadecimal digits), or None where none is, or it is no longer kept."""
        item = self._by_id.get(identifier)
        if item is None:
            self._refresh()
            item = self._by_id.get(identifier)
        if item is None or not self._kept(item):
            return None
        body = self._city._store.read("releases", item.place, 1)[0]
        if item.kind == "release":
            return unpack_release(body[KEY:])
        try:
            return self._city._retained(unpack_series(list(self._series(body))), item.time)
        except ProgrammeError:
            return None

    def kept(self, identifier: str) -> bool:
        """Whether an answer that was found may still be given: its programme's days of retention are not over."""
        item = self._by_id.get(identifier)
        return item is not None and self._kept(item)

    def newest(self, before: int | None, limit: int) -> list[Stored]:
        """The newest answers that are kept, from the place before `before` down, at most `limit`."""
        self._refresh()
        found: list[Stored] = []
        end = len(self._items) if before is None else bisect.bisect_left(self._items, before, key=lambda i: i.place)
        for item in reversed(self._items[:end]):
            if len(found) == limit:
                break
            if self._kept(item):
                found.append(item)
        return found

    def _kept(self, item: Stored) -> bool:
        now = int(self._city._clock())
        return self._city._governing.state().retained(item.programme, item.time, now)

    def _series(self, body: bytes) -> Iterator[bytes]:
        key, step = body[:KEY].hex(), 0
        yield body[KEY:]
        while (stored := self._city._ledger.stored(digest([key, step]))) is not None:
            yield stored
            step += 1

    def _refresh(self) -> None:
        with self._lock:
            for body in self._city._store.read("releases", self._read):
                place, self._read = self._read, self._read + 1
                first, second = cbor.decode(body[KEY:])[:2]
                if isinstance(first, str) and first != "series":  # a step, or a task that no answer was made of yet
                    continue
                kind, text = ("series", second) if first == "series" else ("release", first)
                doc = json.loads(text)
                item = Stored(
                    place, doc["id"], kind, doc["query"]["table"], doc["purpose"], doc["programme"], doc["time"],
                    doc["loss"], doc.get("epoch", 0),
                )  # fmt: skip
                self._items.append(item)
                self._by_id[item.identifier] = item


class ReusedError(Exception):
    """The key came with another request before."""


class RunningError(Exception):
    """The same request is being answered; `wait` is the most seconds until it may be made again."""

    def __init__(self, wait: int) -> None:
        self.wait = wait
        super().__init__(wait)


@dataclass(slots=True)
class Attempt:
    """A request under a key: `answer` is the identifier of what it was answered with before, else None.

    Where another process took the request up meanwhile, for this one took too long, and was the first to answer it, its
    answer stands there in the end.
    """

    epoch: int
    answer: str | None = None
    place: int = -1


class Retries:
    """Idempotency keys of requests, durable, over all processes of a city (draft-ietf-httpapi-idempotency-key-header).

    What is stored of one is a hash of the asker and the key, one of the request, the data epoch in which it came first,
    and the identifier of its answer. A request that is refused binds nothing: it may be made again, or another one.
    """

    def __init__(self, city: Asking) -> None:
        self._city, self._lock, self._read = city, threading.Lock(), 0
        self._known: dict[bytes, tuple[bytes, int, int, str, int]] = {}

    @contextmanager
    def attempt(self, asker: str, key: str, request: bytes) -> Iterator[Attempt]:
        """Hold the key while the request (its digest, 32 bytes) is answered, and keep what `answer` is set to.

        Raises:
            ReusedError, RunningError.
        """
        name = sha256(b"datasov retry v1", json.dumps([asker, key]).encode())
        made = self._begin(name, request)
        if made.answer is not None:
            yield made
            return
        try:
            yield made
        finally:
            self._end(name, request, made)

    def _begin(self, name: bytes, request: bytes) -> Attempt:
        while True:
            now, epoch = int(self._city._clock()), self._city.epoch
            with self._lock:
                self._refresh(now)
                known = self._known.get(name)
                if known is not None:
                    first, epoch, since, answer, _ = known
                    if first != request:
                        raise ReusedError
                    if answer:
                        return Attempt(epoch, answer)
                    if now < since + LEASE:
                        raise RunningError(since + LEASE - now)
                place = self._read
                try:
                    self._append([name, request, epoch, now, ""])
                except ConflictError:
                    continue
            return Attempt(epoch, place=place)

    def _end(self, name: bytes, request: bytes, made: Attempt) -> None:
        body = [name, request if made.answer else b"", made.epoch, int(self._city._clock()), made.answer or ""]
        while True:
            with self._lock:
                self._refresh(int(self._city._clock()))
                known = self._known.get(name)
                if known is not None and known[4] != made.place and (known[3] or not made.answer):
                    made.answer = known[3] or None
                    return
                try:
                    self._append(body)
                except ConflictError:
                    continue
            self._city._anchor()
            return

    def _append(self, entry: list[object]) -> None:
        self._city._store.append({_STREAM: (self._read, [cbor.encode(entry)])})

    def _refresh(self, now: int) -> None:
        for body in self._city._store.read(_STREAM, self._read):
            name, request, epoch, time, answer = fields.items(cbor.decode(body), 5, 5)
            place, self._read = self._read, self._read + 1
            self._known.pop(name, None)
            if request:
                self._known[name] = (request, epoch, time, answer, place)
        while self._known:
            oldest = next(iter(self._known))
            if self._known[oldest][2] > now - KEPT:
                break
            del self._known[oldest]
