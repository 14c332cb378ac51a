"""Quantiles from noisy histograms: the levels of bins to ask for, and what they tell of a quantile.

A histogram of B bins is asked for at several levels, each bin of a coarse level the union of bins of the next, so that
the rank of any edge is a sum of few noisy counts (hierarchical histograms: Hay, Rastogi, Miklau and Suciu 2010). Each
level is a statistic of its own with its own share of the loss: no sensitivity of a tree is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from datasov.model.noise import Noise, sum_half_width

Floats = npt.NDArray[np.float64]


def levels(cuts: Sequence[int]) -> list[tuple[int, ...]]:
    """The inner edges of each level, coarse to fine; the last one is `cuts`.

    With n levels of branching b, n^2 b bounds the variance of an edge's rank: each level has 1/n of the loss, and up to
    b noisy counts of it add up. The least wins.
    """
    bins = len(cuts) + 1
    depth = min(range(1, 11), key=lambda n: n * n * math.ceil(bins ** (1 / n)))
    branching = math.ceil(bins ** (1 / depth) - 1e-9)
    steps = [branching**n for n in range(depth - 1, -1, -1)]
    return [tuple(cuts[step - 1 :: step]) for step in steps if step <= len(cuts)]


def _weights(parts: Sequence[Sequence[int]], q: float) -> list[Floats]:
    """For each level, the weights (edges, bins of the level) of (1 - q) * (items below) - q * (items above)."""
    finest = parts[-1]
    place = {cut: i + 1 for i, cut in enumerate(finest)}
    edges = np.arange(1, len(finest) + 1)
    low, high = np.zeros(len(edges), dtype=np.int64), np.full(len(edges), len(finest) + 1)
    weights = []
    for part in parts:
        bounds = np.array([0, *(place[c] for c in part), len(finest) + 1])
        starts, ends = bounds[:-1], bounds[1:]
        inside = (starts[None, :] >= low[:, None]) & (ends[None, :] <= high[:, None])
        below = inside & (ends[None, :] <= edges[:, None])
        above = inside & (starts[None, :] >= edges[:, None])
        weights.append((1 - q) * below - q * above)
        at = np.searchsorted(bounds, edges, side="right") - 1
        exact = bounds[at] == edges
        low = np.where(exact, edges, bounds[at])
        high = np.where(exact, edges, bounds[np.minimum(at + 1, len(bounds) - 1)])
    return weights


def rank_half_width(parts: Sequence[Sequence[int]], noises: Sequence[Noise], q: float, error: float) -> Floats:
    """For each inner edge, what the noise of its weighted rank exceeds with probability at most `error`."""
    weights = _weights(parts, q)
    squares = np.array([np.square(w).sum(axis=1) for w in weights]).T
    largest = np.array([np.abs(w).max(axis=1) for w in weights]).T
    found: dict[bytes, float] = {}
    for s, w in zip(squares, largest, strict=True):
        key = s.tobytes() + w.tobytes()
        if key not in found:
            found[key] = sum_half_width(noises, s.tolist(), w.tolist(), error)
    return np.array([found[s.tobytes() + w.tobytes()] for s, w in zip(squares, largest, strict=True)])


def estimate(
    parts: Sequence[Sequence[int]], vectors: Sequence[npt.NDArray[np.int64]], noises: Sequence[Noise], q: float,
    bounds: tuple[int, int], confidence: float,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """The quantile of each cell and its interval, in codes; each of shape (cells,).

    The quantile of n values is the least x that at least q n of them do not exceed. Its bin [e, f) has
    (1 - q) * below - q * above <= 0 at e and >= 0 at f. The interval is the hull of the bins for which neither is
    refuted, each at half the error: the true bin is refuted with at most that error, whatever the data.

    Args:
        parts: inner edges of each level. vectors: of shape (cells * bins of the level,).
        bounds: lowest and highest code.
    """
    cells = len(vectors[0]) // (len(parts[0]) + 1)
    weights = _weights(parts, q)
    ranks = sum(
        (v.reshape(cells, -1).astype(np.float64) @ w.T for v, w in zip(vectors, weights, strict=True)),
        np.zeros((cells, len(parts[-1]))),
    )
    width = rank_half_width(parts, noises, q, (1 - confidence) / 2)
    ends = np.ones((cells, 1), dtype=np.bool_)
    possible = np.hstack([ends, ranks <= width]) & np.hstack([ranks >= -width, ends])
    none = ~possible.any(axis=1)
    possible[none] = True
    edges = np.array([bounds[0], *parts[-1], bounds[1] + 1], dtype=np.float64)
    first = possible.argmax(axis=1)
    last = possible.shape[1] - 1 - possible[:, ::-1].argmax(axis=1)
    value = np.clip(_crossing(ranks, edges), edges[first], edges[last + 1] - 1)
    return value, edges[first], edges[last + 1] - 1


def _crossing(ranks: Floats, edges: Floats) -> Floats:
    """Where the ranks of a cell, made ascending, cross zero; between two edges by a straight line."""
    ascending = (np.maximum.accumulate(ranks, axis=1) + np.minimum.accumulate(ranks[:, ::-1], axis=1)[:, ::-1]) / 2
    cells = len(ranks)
    lowest = np.minimum(ascending[:, :1], 0) - 1e-9
    highest = np.maximum(ascending[:, -1:], 0) + 1e-9
    full = np.hstack([lowest, ascending, highest])
    right = (full >= 0).argmax(axis=1)
    rows, left = np.arange(cells), right - 1
    rise = full[rows, right] - full[rows, left]
    share = np.where(rise > 0, -full[rows, left] / np.where(rise > 0, rise, 1), 0.5)
    found: Floats = edges[left] + share * (edges[right] - 1 - edges[left])
    return found
