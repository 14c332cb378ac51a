"""Rates: token buckets by client and for all, in memory, for as many clients as are remembered."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from datasov.gateway.problems import ProblemError


class Buckets:
    """A bucket for each name, which fills at `rate` a second up to `burst`; at most `names` are remembered."""

    def __init__(
        self, rate: float, burst: int, names: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._rate, self._burst, self._names, self._clock = rate, float(burst), names, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str = "") -> None:
        """Take one.

        Raises:
            ProblemError: 429 with Retry-After, the bucket is empty.
        """
        left, now = self._now(name)
        if left < 1:
            raise self._full(left)
        self._left[name] = (left - 1, now)
        self._left.move_to_end(name)
        if len(self._left) > self._names:
            self._left.popitem(last=False)

    def check(self, name: str = "") -> None:
        """Raise as :meth:`take` would, and take nothing."""
        left, _ = self._now(name)
        if left < 1:
            raise self._full(left)

    def _now(self, name: str) -> tuple[float, float]:
        now = self._clock()
        left, since = self._left.get(name, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate), now

    def _full(self, left: float) -> ProblemError:
        wait = math.ceil((1 - left) / self._rate)
        return ProblemError(
            "too-many-requests", "too many requests in a short time: wait as long as Retry-After says",
            {"retry-after": str(max(wait, 1))},
        )  # fmt: skip


class Busy:
    """How many tasks of each client are under way, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, dict[str, int]()

    def enter(self, name: str) -> None:
        """Count one more; ProblemError (429) where it is one too many."""
        count = self._count.get(name, 0)
        if count >= self._most:
            raise ProblemError(
                "too-many-requests", f"{self._most} questions of yours are being answered: wait for one of them",
                {"retry-after": "1"},
            )  # fmt: skip
        self._count[name] = count + 1

    def leave(self, name: str) -> None:
        """Count one less."""
        if self._count[name] == 1:
            del self._count[name]
        else:
            self._count[name] -= 1


class Room:
    """Bytes of bodies that are in memory at once: at most `most` of all clients, and `each` of one."""

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each, self._used = most, each, 0
        self._of = dict[str, int]()

    @contextmanager
    def held(self, name: str) -> Iterator[Callable[[int], None]]:
        """A function that takes so many bytes more for a client, or raises ProblemError (429); all go in the end."""
        mine = 0

        def take(size: int) -> None:
            nonlocal mine
            of = self._of.get(name, 0) + size
            if of > self._each or self._used + size > self._most:
                raise ProblemError(
                    "too-many-requests", "too many large bodies are arriving: send this one later", {"retry-after": "5"}
                )
            self._of[name], self._used, mine = of, self._used + size, mine + size

        try:
            yield take
        finally:
            if mine:
                self._used -= mine
                self._of[name] -= mine
                if not self._of[name]:
                    del self._of[name]


def network(address: str) -> str:
    """Whom an address counts as: of IPv6 its network of 64 bits, which one customer has for themselves."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
