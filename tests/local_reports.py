"""The exact distribution of a device's report, by running the encoder over all that it can draw."""

from __future__ import annotations

import itertools
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import datasov as ds
from datasov.mpc import local
from datasov.mpc.local import Encoding, Fit, Tally, randomise

EPSILONS = ["1e-9", "0.001", "0.5", "1", "3", "16"]


@contextmanager
def drawing(flips: list[int], bits: int) -> Iterator[list[float]]:
    """The encoder's draws as given: `flips` are the words that its bits are flipped with, in turn; their chances."""
    chances: list[float] = []
    left = iter(flips)

    def respond(data: bytes, chance: float, loss: ds.Loss) -> bytes:
        chances.append(chance)
        word = next(left) ^ int.from_bytes(data, "little")
        return word.to_bytes(len(data), "little")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "respond", respond)
        patch.setattr(secrets, "randbits", lambda _: bits)
        yield chances


def distribution(category: int | None, how: Encoding) -> dict[bytes, float]:
    """The probability of each report, summed over every outcome of every draw of the real encoder."""
    found: dict[bytes, float] = defaultdict(float)
    unary = how.kind == "unary"
    words = (
        itertools.product(range(1 << how.bits), (0, 1)) if unary else itertools.product((0, 1), range(1 << how.bits))
    )
    for one, other in words:
        with drawing([one, other] if unary else [one], other) as chances:
            report = randomise(category, how, ds.pure(epsilon=1))
        ones = one.bit_count()
        length = how.bits if unary else 1
        chance = chances[0] ** ones * (1 - chances[0]) ** (length - ones)
        if unary:
            assert chances[1] == 0.5
        found[report] += chance * (0.5 if unary else 1 / (1 << how.bits))
    return found


def exact_tally(how: Encoding, true: list[int], n: int, generator: np.random.Generator) -> Tally:
    """A tally drawn from its own law: of independent reports, so many of each category and the rest of none.

    Under unary encoding the bits of a report are independent, so that each category's supports are two binomials.
    """
    numbers = np.array(true)
    supports = generator.binomial(numbers, how.own) + generator.binomial(n - numbers, how.other)
    return Tally(how, supports, n)


def of_one(found: Fit, cells: int, cell: int, value: int) -> list[np.ndarray]:
    """The dense vectors of a resident of one item: in this cell, with this value about the centre."""
    vectors = [np.zeros(cells, dtype=np.int64) for _ in range(2)]
    assert found.total is not None
    vectors[found.total][cell] = value
    if found.count is not None:
        vectors[found.count][cell] = 1
    return vectors
