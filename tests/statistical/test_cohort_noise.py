"""What a minimum cohort withholds: as often as the noise on the residents says, and blind to everything else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import datasov as ds
from datasov.kernel import noise
from datasov.kernel.contribute import add
from datasov.kernel.ledger import Reservation
from datasov.kernel.plan import compile
from datasov.model.cohort import withhold
from tests.statistical.significance import Share, discrete_gaussian

CELLS = 20_000
WIDE = ds.Schema(
    "wide", domain="energy", columns={"cell": ds.Category([str(i) for i in range(CELLS)])}, keys=[("cell",)]
)
PLAN = compile(ds.query(WIDE).keys("cell").bound(rows=1, keys=1).count().distinct())
LOSS = ds.zcdp(rho="0.05")
SHARE = Share("cohort")


def drawn(residents: int):
    """The kernel's noise over cells that each hold so many residents with a row each."""
    made = noise.draw(add([], PLAN), PLAN, Reservation(bytes(16), LOSS))
    return replace(made, values=tuple(v + residents for v in made.values))


@pytest.mark.parametrize(("residents", "cohort"), [(0, 10), (10, 10), (12, 10), (5, 3)])
def test_a_cell_is_withheld_as_often_as_its_noise_says(residents, cohort):
    """The exact tail of the discrete Gaussian at the minimum: at it a cell stays, below it goes."""
    sigma = PLAN.scales(LOSS)[1]
    support, mass = discrete_gaussian(sigma)
    expected = float(mass[residents + support < cohort].sum())
    gone = len(withhold(PLAN.statistics, drawn(residents), cohort).cells)
    assert stats.binomtest(gone, CELLS, expected).pvalue > SHARE.take()
    off = float(mass[residents + support <= cohort].sum())
    assert stats.binomtest(gone, CELLS, off).pvalue < 1e-6, "a test that would not see one step is none"


def test_what_is_withheld_tells_nothing_of_the_other_statistics_noise():
    """The counts in cells that stay and in cells that go have one distribution: residents alone choose."""
    made = drawn(10)
    gone = np.zeros(CELLS, dtype=np.bool_)
    gone[list(withhold(PLAN.statistics, made, 10).cells)] = True
    assert CELLS / 4 < gone.sum() < 3 * CELLS / 4
    counts = made.values[0] / PLAN.scales(LOSS)[0]
    spread = math.sqrt(1 / gone.sum() + 1 / (~gone).sum())
    z = abs(float(counts[gone].mean() - counts[~gone].mean())) / spread
    assert math.erfc(z / math.sqrt(2)) > SHARE.take()
    own = made.values[1] / PLAN.scales(LOSS)[1]
    assert abs(own[gone].mean() - own[~gone].mean()) / spread > 6, "and of the residents' it tells all"
