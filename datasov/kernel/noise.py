"""The only importer of opendp: one vector call a statistic, with the privacy map checked before the draw."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import opendp.prelude as dp

from datasov.errors import InternalError
from datasov.kernel.contribute import Exact
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import Plan
from datasov.model.privacy import NANO

dp.enable_features("contrib")
_DOMAIN = dp.vector_domain(dp.atom_domain(T="i64"))
_METRIC = dp.l2_distance(T="f64")


def draw(total: Exact, plan: Plan, reservation: Reservation) -> tuple[npt.NDArray[np.int64], ...]:
    """Noised totals, one vector of `cells` entries a statistic. A reservation pays for one draw.

    The mechanism is OpenDP's `make_gaussian` over integers (discrete Gaussian; Canonne, Kamath and Steinke 2020).

    Raises:
        InternalError: the reservation was used before, or OpenDP's map claims more than the statistic's loss.
    """
    reservation.use()
    drawn = []
    parts = zip(
        plan.statistics, plan.losses(reservation.loss), plan.sigmas(reservation.loss), total._values, strict=True
    )
    for statistic, loss, sigma, values in parts:
        mechanism = dp.m.make_gaussian(_DOMAIN, _METRIC, scale=sigma)
        distance = math.nextafter(math.sqrt(statistic.squared_sensitivity), math.inf)
        claimed: float = mechanism.map(distance)  # type: ignore[no-untyped-call]
        if claimed > math.nextafter(loss.nano / NANO, 0.0):
            raise InternalError("the mechanism's privacy map exceeds the reserved loss")
        drawn.append(np.array(mechanism(values.tolist()), dtype=np.int64))
    return tuple(drawn)
