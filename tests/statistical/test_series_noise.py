"""The nodes of a series have the noise that its loss asks for, independent of each other, and its intervals cover."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import datasov as ds
from datasov.kernel.series import compile_series
from datasov.model.privacy import Loss
from tests.helpers import PURPOSE, Clock, found_city
from tests.statistical.significance import Share, fits, too_rare

CELLS, BEGIN = 4000, 1_798_761_600
WIDE = ds.Schema("wide", domain="energy", columns={
    "cell": ds.Category([str(i) for i in range(CELLS)]), "at": ds.Timestamp("2027-01-01", "2027-02-01", zone="UTC"),
}, keys=[("cell",)])  # fmt: skip
SERIES = ds.series(ds.query(WIDE).keys("cell").count(), every="1d", rows=3, steps=7)
SHARE = Share("series")


@pytest.fixture(scope="module", params=[ds.zcdp(rho="0.5"), ds.pure(epsilon="1")], ids=str)
def followed(request, tmp_path_factory):
    """A series over nobody: noise alone."""
    clock = Clock(BEGIN + 10**7)
    with found_city(tmp_path_factory.mktemp("series"), clock, budget=ds.zcdp(rho=10)) as city:
        return city.follow(SERIES, loss=request.param, purpose=PURPOSE)


def nodes(found: ds.SeriesRelease) -> list[np.ndarray]:
    return [node for output in found.outputs for node in output]


def test_the_scale_is_that_of_a_resident_in_every_level(followed):
    loss, reach = followed.loss, 3 * SERIES.levels if followed.loss.measure == "pure" else 3 * math.sqrt(SERIES.levels)
    parted = loss.nano / 1e9 if loss.measure == "pure" else math.sqrt(2 * loss.nano / 1e9)
    assert followed.scale == pytest.approx(reach / parted, rel=1e-6)
    assert len(nodes(followed)) == 7 + 3 + 1


def test_every_node_has_noise_of_that_scale_and_of_its_own(followed):
    found = nodes(followed)
    for node in found:
        if followed.loss.measure == "zcdp":
            assert fits(node, followed.scale) > SHARE.take()
        else:
            far = int((np.abs(node) > followed.noise.half_width(0.9)).sum())
            assert too_rare(CELLS - far, CELLS, 0.9) > SHARE.take()
    for a, b in pairwise(found):
        z = abs(float((a / a.std() * (b / b.std())).sum())) / math.sqrt(CELLS)
        assert math.erfc(z / math.sqrt(2)) > SHARE.take(), "two nodes share their noise"


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("last", [None, 3])
def test_intervals_cover_at_least_as_often_as_they_say(followed, confidence, last):
    frame = followed.frame(confidence, last=last)
    for step in (2, 6):
        told = frame.filter(frame["step"] == step)
        covered = int(((told["count_low"] <= 0) & (told["count_high"] >= 0)).sum())
        assert too_rare(covered, CELLS, confidence) > SHARE.take()


def test_half_the_noise_would_be_noticed_and_refused(followed, monkeypatch, tmp_path):
    if followed.loss.measure == "zcdp":
        assert fits(nodes(followed)[0], followed.scale * 2) < 1e-12
    plan = compile_series(SERIES)
    real = type(plan).scales
    monkeypatch.setattr(type(plan), "scales", lambda self, loss: tuple(s / 2 for s in real(self, loss)))
    with found_city(tmp_path, Clock(BEGIN + 10**7)) as city, pytest.raises(ds.InternalError, match="privacy map"):
        city.follow(SERIES, loss=Loss(10**6), purpose=PURPOSE)
