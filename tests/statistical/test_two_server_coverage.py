"""Intervals of a release of two servers hold the exact bounded answer as often as they say: the noise is real."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.mpc.report import make_reports
from datasov.mpc.task import read_task
from tests.helpers import PURPOSE
from tests.servers import LONG, opened, two_server_city
from tests.statistical.significance import Share, too_rare

SHARE = Share("two servers")
CELLS, PEOPLE = 250, 40
SCHEMA = ds.Schema(
    "cells", domain="mobility", columns={"x": ds.Integer(0, CELLS - 1), "km": ds.Integer(-9, 9)},
    keys=[(ds.bin("x", list(range(1, CELLS))),)],
)  # fmt: skip
QUERY = ds.query(SCHEMA).keys(ds.bin("x", list(range(1, CELLS)))).bound(rows=1, keys=1).count().sum("km")


@pytest.mark.parametrize(
    "loss", [ds.zcdp(rho="0.1"), pytest.param(ds.pure(epsilon="0.8"), marks=pytest.mark.campaign)], ids=["zcdp", "pure"]
)
def test_intervals_of_two_servers_cover(tmp_path, clock, loss):
    city, servers = two_server_city(tmp_path, clock, budget=loss)
    rng = np.random.default_rng(11)
    task = read_task(opened(city, QUERY, clock, loss))
    assert [len(f.document()) for f in task.fits] == [5, 5]
    people = []
    for _ in range(PEOPLE):
        vectors = [np.zeros(CELLS, dtype=np.int64) for _ in task.fits]
        cell = rng.integers(CELLS)
        vectors[0][cell], vectors[1][cell] = 1, rng.integers(-9, 10)
        people.append(vectors)
    servers.upload(make_reports(task, people))
    clock.now += LONG
    release = city.release(QUERY, loss=loss, purpose=PURPOSE)
    for confidence in (0.5, 0.9, 0.99):
        frame = release.frame(confidence=confidence)
        for place, name in enumerate(("count", "km_sum")):
            exact = np.sum([p[place] for p in people], axis=0)
            low, high = frame[f"{name}_low"].to_numpy(), frame[f"{name}_high"].to_numpy()
            covered = int(((low <= exact) & (exact <= high)).sum())
            assert too_rare(covered, CELLS, confidence) > SHARE.take()
            assert covered < CELLS or confidence > 0.9, "an interval that holds all is none"
    city.close()
