"""`datasov consent answer`: what a device says to a task of its city, and to whom.

All that shows here follows from the task and the options alone: the lines, the exit code, when the report leaves. What
the report says, or that it says nothing, is not known to this file.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.aggregator.client import over_http
from datasov.commands import outgoing
from datasov.errors import ConsentError, InvalidDataError, VerificationError
from datasov.model.consent import CityId
from datasov.mpc.noised import NoisedReport
from datasov.mpc.task import MOST_TASK, Task, read_task
from datasov.resident import Resident
from datasov.wire import cbor

Open = Callable[[argparse.Namespace], Resident]


def add(command: Callable[..., Any], open_: Open) -> None:
    """Add `answer` to the commands of `datasov consent`; `open_` opens the vault that the options name."""
    answered = command(
        "answer", lambda options: _answer(options, open_), "answer a task that the city gave out",
        "Every device answers every task, also where nothing was granted or its owner refuses: then the report says "
        "nothing, and nobody can tell it from another one. Under two servers it is sent to the first of them, under "
        "local trust it is written to a file for the city. The first answer to a task stands: a second time the same "
        "one is given, whatever is asked for then.",
    )  # fmt: skip
    answered.add_argument("task", type=Path, metavar="TASKFILE", help="what `datasov city collect` wrote")
    answered.add_argument(
        "--refuse", action="store_true", help="say nothing, whatever was granted; all that shows is the same"
    )
    answered.add_argument(
        "--to", type=Path, metavar="FILE", help="under local trust: a path where nothing is yet, for the city"
    )
    answered.add_argument("--city", metavar="ID", help="answer only where the task is this city's")
    answered.add_argument(
        "--wait", type=_seconds, default=1.0, metavar="SECONDS",
        help="the report leaves 1, 2, 4 ... times so long after it was begun, so that it does not tell how long your "
        "rows took (default: %(default)s)",
    )  # fmt: skip


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError("seconds from 0 to 3600")
    return number


def _answer(options: argparse.Namespace, open_: Open) -> int:
    data = outgoing.read(options.task, MOST_TASK, "the task")
    task = read_task(data)
    _check(task, options)
    with open_(options) as resident:
        begun = time.monotonic()
        report = resident.answer(data, refuse=options.refuse)
    _hold(begun, options.wait)
    if _noised(report, task):
        outgoing.write(options.to, report)
    elif report:
        over_http(task.trust.aggregators[0], "reports", cbor.encode([report]))
    whose = f"{task.id.hex()[:16]} of {CityId.parse(task.city).name}"
    print(f"The task {whose} is answered. What was said shows nowhere, nor here.", flush=True)
    if options.to is not None:
        there = "it" if len(task.trust.each) == 1 else "what is there, if anything,"
        print(f"{options.to} is for the city: hand {there} over.", flush=True)
    return 0


def _check(task: Task, options: argparse.Namespace) -> None:
    """Refuse what cannot be done with this task, before the vault is open."""
    if options.city is not None and CityId.parse(options.city) != CityId.parse(task.city):
        raise ConsentError("the task is another city's: answer it only if you know that city")
    asked = task.trust.part("local") is not None
    if asked and options.to is None:
        raise InvalidDataError("this task is answered with a file for the city: name a new one with --to FILE")
    if not asked and options.to is not None:
        raise InvalidDataError("this task is answered to its servers: leave --to away")
    outgoing.free(options.to)


def _hold(begun: float, wait: float) -> None:
    """Return at a moment that was fixed before anything was computed, or a later one of few."""
    spent, end = time.monotonic() - begun, wait
    while wait and end < spent:
        end *= 2
    time.sleep(max(0.0, end - spent) if wait else 0.0)


def _noised(report: bytes, task: Task) -> bool:
    """Whether a report is one for the city; one that was made before stands under the trust of then."""
    try:
        NoisedReport.from_bytes(report).check(task)
    except VerificationError:
        return False
    return True
