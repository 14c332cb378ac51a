"""Local trust: what it errs by, and what a report costs the device.

- `l1`: for each number of residents the sum over `CELLS` cells of what the estimates are off, at epsilon 1 between any
  two answers: under local trust, by discrete Laplace noise of one adder (`central`) and of two (`two_servers`), each
  for a resident who changes cell. `expected` is the standard deviations' part of it. Where `drawn` is true the
  reports were made and added; else supports are drawn from their law, which is that of two binomials.
- `report_ms`, `report_bytes`: of one report of `CELLS` cells; `tallied_per_s`: reports added in a second.
"""

from __future__ import annotations

import json
import math
import time

import numpy as np

import datasov as ds
from datasov.mpc.local import Encoding, Tally, encoding, randomise, tally

CELLS, TIMES = 256, 5
LOSS = ds.pure(epsilon=1)


def _true(residents: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(np.arange(residents) % CELLS, minlength=CELLS)


def _local(how: Encoding, residents: int, drawn: bool, generator: np.random.Generator) -> float:
    true = _true(residents)
    if drawn:
        added = tally(how, [randomise(i % CELLS, how, LOSS) for i in range(residents)])
        return float(np.abs(added.estimates() - true).sum())
    supports = generator.binomial(true, how.own) + generator.binomial(residents - true, how.other)
    return float(np.abs(Tally(how, supports, residents).estimates() - true).sum())


def _added(draws: int, generator: np.random.Generator) -> float:
    """The L1 error of discrete Laplace noise for a resident who changes cell: L1 sensitivity 2."""
    chance = 1 - math.exp(-1 / 2)
    noise = sum(generator.geometric(chance, CELLS) - generator.geometric(chance, CELLS) for _ in range(draws))
    return float(np.abs(noise).sum())


def run(size: str) -> dict[str, object]:
    """The figures; "small" makes the reports of 1,000 residents, "full" also those of 10,000."""
    generator, how = np.random.default_rng(), encoding(CELLS, LOSS)
    most = 1_000 if size == "small" else 10_000
    rows: list[dict[str, object]] = []
    for residents in (1_000, 10_000, 100_000, 1_000_000):
        drawn = residents <= most
        deviations = [how.deviation(residents, t / residents) for t in _true(residents).tolist()]
        found = [_local(how, residents, drawn, generator) for _ in range(1 if drawn else TIMES)]
        rows.append(
            {
                "residents": residents, "drawn": drawn, "local": round(float(np.mean(found))),
                "expected": round(sum(deviations) * math.sqrt(2 / math.pi)),
                "central": round(float(np.mean([_added(1, generator) for _ in range(TIMES)]))),
                "two_servers": round(float(np.mean([_added(2, generator) for _ in range(TIMES)]))),
            }
        )  # fmt: skip
    began = time.process_time()
    reports = [randomise(i, how, LOSS) for i in range(CELLS)]
    making = (time.process_time() - began) / CELLS
    many = reports * 64
    began = time.process_time()
    tally(how, many)
    adding = time.process_time() - began
    return {
        "cells": CELLS,
        "l1": rows,
        "report_ms": round(making * 1000, 2),
        "report_bytes": how.size,
        "tallied_per_s": round(len(many) / adding),
    }


if __name__ == "__main__":
    print(json.dumps(run("small")))
