"""The number of decoys is drawn so that one entry more or less hardly shows in a published count."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from datasov.crypto import padding
from tests.statistical.significance import CHECKS, TOTAL, agrees


def chances() -> dict[int, Fraction]:
    """The exact probabilities, written anew."""
    weights = {k: Fraction(9, 10) ** abs(k - 200) for k in range(401)}
    return {k: w / sum(weights.values()) for k, w in weights.items()}


def test_one_entry_more_is_epsilon_delta_private():
    """For every set of counts P(n + decoys in it) <= 10/9 P(n + 1 + decoys in it) + 1e-10, and the other way."""
    p = chances()
    for step in (1, -1):
        delta = sum(max(Fraction(0), p[k] - Fraction(10, 9) * p.get(k - step, Fraction(0))) for k in p)
        assert delta < Fraction(1, 10**10)


def test_crossing_a_multiple_of_256_tells_one_in_19_at_most():
    """The greatest distance between the distributions of what is published for n and n + 1 entries."""
    p = chances()

    def published(n: int) -> Counter[int]:
        found: Counter[int] = Counter()
        for k, chance in p.items():
            found[max(256, -(-(n + k) // 256) * 256)] += chance
        return found

    far = [sum(abs(published(n)[c] - published(n + 1)[c]) for c in range(256, 1281, 256)) / 2 for n in range(256)]
    assert max(far) == max(p.values()) < Fraction(1, 18)
    assert far.index(max(far)) == 56, "with 200 decoys it is full then"


def test_draws_have_these_chances():
    drawn = [padding.decoys() for _ in range(20_000)]
    assert agrees(drawn, {k: float(c) for k, c in chances().items()}) > TOTAL / sum(CHECKS.values())


@pytest.mark.parametrize(("word", "expected"), [(0, 0), (9**200 - 1, 0), (9**200, 1), (None, 400)])
def test_the_ends_of_the_range_are_met(monkeypatch, word, expected):
    """Each whole number below the sum of the weights stands for one outcome; those above are drawn anew."""
    spare = 8 * padding._BYTES - padding._BITS
    least = padding._ENDS[-1]
    words = [(least << spare), ((least - 1 if word is None else word) << spare)]
    monkeypatch.setattr(padding, "random", lambda n: words.pop(0).to_bytes(n, "big"))
    assert padding.decoys() == expected
    assert not words


@pytest.mark.parametrize(("real", "drawn", "count"), [(0, 0, 256), (56, 200, 256), (57, 200, 512), (256, 0, 256)])
def test_counts_are_multiples_of_256(monkeypatch, real, drawn, count):
    monkeypatch.setattr(padding, "decoys", lambda: drawn)
    assert padding.padded(real) == count
