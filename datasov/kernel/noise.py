"""The only importer of opendp: every draw's privacy map is checked against the reserved loss first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import opendp.prelude as dp

from datasov.errors import InternalError
from datasov.kernel.contribute import Exact
from datasov.kernel.ledger import Reservation
from datasov.model.noise import threshold
from datasov.model.plan import Noised, Plan
from datasov.model.privacy import ATTO, NANO, Loss
from datasov.model.shard import Integers
from datasov.model.statistics import Statistic

dp.enable_features("contrib")
_ENTRY = dp.atom_domain(T="i64")
_VECTOR, _MAP = dp.vector_domain(_ENTRY), dp.map_domain(_ENTRY, _ENTRY)
_AT_ONCE = 1 << 14
"""Entries of one vector call; calls run in parallel."""


def draw(total: Exact, plan: Plan, reservation: Reservation) -> Noised:
    """Noised totals. A reservation pays for one draw.

    Under zCDP the noise is OpenDP's `make_gaussian` over integers (discrete Gaussian; Canonne, Kamath and Steinke
    2020), under pure epsilon `make_laplace` (discrete Laplace); the highest cells are chosen by `make_noisy_top_k`
    (Gumbel noise, one shot, or under pure epsilon permute-and-flip), unknown keys by `make_gaussian_threshold`.

    Raises:
        InternalError: the reservation was used before, or OpenDP's map claims more than the statistic's loss.
    """
    reservation.use()
    loss = reservation.loss
    each = list(zip(plan.statistics, plan.losses(loss), plan.scales(loss), strict=True))
    if plan.top:
        ((statistic, part, scale),) = each
        return Noised(reservation.identifier, (_top(total._values[0], plan.top, statistic, part, scale),))
    if not plan.unknown:
        drawn = _parallel([(_additive(*three), v) for three, v in zip(each, total._values, strict=True)])
        return Noised(reservation.identifier, drawn)
    if total._cells is None:
        raise InternalError("totals of unknown keys come with their cells")
    counts = dict(zip(total._cells.tolist(), total._values[plan.found].tolist(), strict=True))
    shown = _thresholded(counts, *each[plan.found], loss.delta / ATTO)
    cells = np.array(sorted(shown), dtype=np.int64)
    at = np.searchsorted(total._cells, cells)
    rest = [(_additive(*three), v[at]) for three, v in zip(each, total._values, strict=True)]
    del rest[plan.found]
    values = list(_parallel(rest))
    values.insert(plan.found, np.array([shown[c] for c in cells.tolist()], dtype=np.int64))
    return Noised(reservation.identifier, tuple(values), cells)


def draw_nodes(nodes: Sequence[Integers], plan: Plan, reservation: Reservation) -> Noised:
    """Noised nodes of a series: each by a mechanism whose map is checked for all that a resident adds to the tree."""
    reservation.use()
    made = _additive(plan.statistics[0], plan.losses(reservation.loss)[0], plan.scales(reservation.loss)[0])
    return Noised(reservation.identifier, _parallel([(made, node) for node in nodes]))


def respond(bits: bytes, chance: float, loss: Loss) -> bytes:
    """A device's own bits, each flipped with this chance; checked is the loss of one bit (docs/proofs/local.md)."""
    made = dp.m.make_randomized_response_bitvec(dp.bitvector_domain(max_weight=1), dp.discrete_distance(), 2 * chance)
    return _checked(made, 1, Loss(2 * loss.nano, loss.measure))(bits)  # type: ignore[no-any-return]


def _checked(mechanism: Any, distance: Any, loss: Loss, delta: float = 0.0) -> Any:
    claimed = mechanism.map(distance)
    epsilon_or_rho, failure = claimed if isinstance(claimed, tuple) else (claimed, 0.0)
    if epsilon_or_rho > math.nextafter(loss.nano / NANO, 0.0) or failure > delta:
        raise InternalError("the mechanism's privacy map exceeds the reserved loss")
    return mechanism


def _additive(statistic: Statistic, loss: Loss, scale: float) -> Callable[[list[int]], list[int]]:
    if loss.measure == "pure":
        made = dp.m.make_laplace(_VECTOR, dp.l1_distance(T="i64"), scale=scale)
        return _checked(made, statistic.l1_sensitivity, loss)  # type: ignore[no-any-return]
    made = dp.m.make_gaussian(_VECTOR, dp.l2_distance(T="f64"), scale=scale)
    return _checked(made, math.nextafter(math.sqrt(statistic.squared_sensitivity), math.inf), loss)  # type: ignore[no-any-return]


def _parallel(vectors: Sequence[tuple[Callable[[list[int]], list[int]], Integers]]) -> tuple[Integers, ...]:
    """Each vector noised, entry by entry independently, in as many calls as processors can share."""
    pieces = [(m, v[i : i + _AT_ONCE].tolist()) for m, v in vectors for i in range(0, len(v), _AT_ONCE)]
    with ThreadPoolExecutor() as executor:
        noised = list(executor.map(lambda piece: piece[0](piece[1]), pieces))
    flat = np.fromiter((n for piece in noised for n in piece), dtype=np.int64)
    return tuple(np.split(flat, np.cumsum([len(v) for _, v in vectors])[:-1])) if vectors else ()


def _top(scores: Integers, k: int, statistic: Statistic, loss: Loss, scale: float) -> Integers:
    """The k highest cells, in order. Scores only grow with a resident, so their metric is monotonic."""
    measure = dp.max_divergence() if loss.measure == "pure" else dp.zero_concentrated_divergence()
    metric = dp.linf_distance(T="i64", monotonic=True)
    made = dp.m.make_noisy_top_k(_VECTOR, metric, measure, k=k, scale=scale)
    return np.array(_checked(made, statistic.most, loss)(scores.tolist()), dtype=np.int64)


def _thresholded(
    counts: dict[int, int], statistic: Statistic, loss: Loss, scale: float, delta: float
) -> dict[int, int]:
    """Noised residents of the keys where they reach the threshold.

    OpenDP's map understates delta by one step of the threshold (opendp issue 2922): the map is checked one below the
    threshold that serves, and the threshold itself is our own exact tail, where one resident's key alone shows.
    """
    space = _MAP, dp.l02inf_distance(dp.absolute_distance(T="f64"))
    distance = statistic.touched, math.nextafter(math.sqrt(statistic.touched), math.inf), 1.0
    at = threshold(scale, delta / statistic.touched) + 1
    _checked(dp.m.make_gaussian_threshold(*space, scale=scale, threshold=at - 1), distance, loss, delta)
    shown: dict[int, int] = dp.m.make_gaussian_threshold(*space, scale=scale, threshold=at)(counts)
    return shown
