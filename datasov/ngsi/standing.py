"""A standing question at a broker: a series, each step published as it is counted, that can be stopped and resumed.

The horizon is charged when the series is opened. Going on charges nothing: the city finds the series, and the outbox
tells which steps the broker has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from datasov.model.privacy import Loss
from datasov.model.series import Series, SeriesRelease
from datasov.ngsi.broker import Broker
from datasov.ngsi.outbox import Outbox
from datasov.ngsi.publishing import Piece, Releases, Report, publish
from datasov.ngsi.receipts import proofs
from datasov.ngsi.statistic import By, of_step

LONGEST = 60.0
"""Seconds between two looks at the broker, where something failed, and at the clock."""


class Following(Releases, Protocol):
    def follow(
        self, series: Series, *, loss: Loss, purpose: str, programme: bytes | str | None = None
    ) -> SeriesRelease: ...


def follow(
    city: Following, series: Series, broker: Broker, outbox: Outbox, *, loss: Loss, purpose: str,
    programme: bytes | str | None = None, by: By = "question", projections: Iterable[str] = (),
    confidence: float = 0.95, stop: threading.Event | None = None, told: Callable[[Report], None] | None = None,
    clock: Callable[[], float] = time.time, once: bool = False,
) -> SeriesRelease:  # fmt: skip
    """Count the steps that are over, publish them, wait for the next; until the horizon is over or `stop` is set.

    Run it again, in another process too, and it goes on: a step that was counted is released as it stands, and one that
    the broker has is not sent again.

    Args:
        by: ids by question are updated by each step; by release, every step has entities of its own.
        told: called after each attempt to publish.
        once: do not wait: one round, for a scheduler.

    Raises:
        As :meth:`City.follow` and :func:`publish`. A broker that fails does not raise: the steps wait in the city.
    """
    stop, wanted = stop or threading.Event(), tuple(projections)
    while True:
        found = city.follow(series, loss=loss, purpose=purpose, programme=programme)
        leaves = proofs(city.log.leaves(), city.log.origin)
        key = found.identifier.hex()
        given = [
            Piece(tuple(of_step(found, step, leaves[key, step], confidence=confidence)))
            for step in range(len(found.outputs))
        ]
        report = publish(given, broker, outbox, by=by, projections=wanted)
        if told is not None:
            told(report)
        over = len(found.outputs) == series.steps and not report.failed
        if once or over or stop.wait(pause(series, len(found.outputs), clock(), bool(report.failed))):
            return found


def pause(series: Series, done: int, now: float, failed: bool) -> float:
    """Seconds until the next step is over with its delay: a public time."""
    due = (series.start + series.delay + (done + 1) * series.every) / 1_000_000 - now
    return LONGEST if failed or done == series.steps else min(max(due, 0.05), LONGEST)
