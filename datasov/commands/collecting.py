"""`datasov city collect`, `take`, `enrol` and `issue`: a question to devices, and what they are given and give."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.commands import asking, operator, outgoing, rolls
from datasov.errors import DatasovError
from datasov.model.derived import microseconds
from datasov.mpc import noised
from datasov.mpc.task import read_task

_TAKEN_AT_ONCE = 512
MOST_REQUEST = 64 * 1024
"""Bytes of requests for tokens, and of what answers them."""


def add(command: Callable[..., Any]) -> None:
    """Add `collect`, `take`, `enrol` and `issue` to the commands of `datasov city`."""
    opened = command(
        "collect", _collect, "open a question to devices, and write its task to a new file for all of them",
        "For a city of two servers, of local trust, or of several trusts. The loss is spent at once, here and at both "
        "servers. Opened again in the same data epoch, also after a server did not answer, it is the same task. After "
        "its end `datasov city ask` with the same question gives the answer.",
    )  # fmt: skip
    opened.add_argument("task", type=Path, metavar="TASKFILE", help="a path where nothing is yet")
    asking.question_options(opened)
    when = opened.add_mutually_exclusive_group(required=True)
    when.add_argument("--until", metavar="TIME", help="devices answer until the end of this day, or this very time")
    when.add_argument("--for", dest="lasting", metavar="LENGTH", help="or for so long from now on: 90min, 12h, 7d")
    opened.add_argument(
        "--every", type=int, default=0, metavar="N",
        help="under local trust: data epochs after which devices noise their answer to this question anew, and are "
        "charged again (default: never)",
    )  # fmt: skip
    taken = command(
        "take", _take, "take the reports that devices noised, files of `datasov consent answer --to`",
        "Of one vault one report to a task counts, the first; given again, it changes nothing. Where one is refused "
        "the others are taken all the same, and the exit code is 1.",
    )  # fmt: skip
    taken.add_argument("file", nargs="+", type=Path, metavar="REPORT", help="what a resident handed over")
    enrolled = command(
        "enrol", _enrol, "put residents on the city's roll, from a file, where it was founded with --enrol", rolls.WHO
    )
    rolls.add_options(enrolled)
    issued = command(
        "issue", _issue, "answer a device's request for an enrolment token, a file of `datasov consent answer`",
        "A gateway does the same by itself. What is issued cannot be told from any other when it comes back.",
    )  # fmt: skip
    issued.add_argument("request", type=Path, metavar="REQUEST", help="what `--token-request` wrote")
    issued.add_argument("tokens", type=Path, metavar="FILE", help="a path where nothing is yet, for `--tokens`")


def _collect(options: argparse.Namespace) -> int:
    outgoing.free(options.task)
    question, until = asking.question_of(options), options.until
    if options.lasting is not None:
        seconds = microseconds(options.lasting) // 1_000_000
        until = dt.datetime.fromtimestamp(time.time() + seconds, dt.UTC)
    with operator.open_city(options.city, options.operator_key_file) as city:
        signed = city.collect(question, until=until, every=options.every, **asking.under(options))
        left = city.remaining
    outgoing.write(options.task, signed)
    task = read_task(signed)
    end = dt.datetime.fromtimestamp(task.until, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    print(
        f"{options.task} holds the task {task.id.hex()[:16]}, open until {end}: give it to every resident.", flush=True
    )
    print(f"{options.loss} was the price, {left} is left.", file=sys.stderr)
    return 0


def _take(options: argparse.Namespace) -> int:
    refused = 0
    with operator.open_city(options.city, options.operator_key_file) as city:
        for at in range(0, len(options.file), _TAKEN_AT_ONCE):
            found: list[tuple[Path, bytes]] = []
            for path in options.file[at : at + _TAKEN_AT_ONCE]:
                try:
                    found.append((path, outgoing.read(path, noised.MOST, "the report")))
                except DatasovError as why:
                    refused += _refuse(path, why)
            outcomes = city.take_many([data for _, data in found])
            refused += sum(_refuse(p, why) for (p, _), why in zip(found, outcomes, strict=True) if why is not None)
    print(f"{len(options.file) - refused} taken, {refused} refused.", flush=True)
    return 1 if refused else 0


def _enrol(options: argparse.Namespace) -> int:
    with operator.open_city(options.city, options.operator_key_file) as city:
        return rolls.changed(options, city.enrol, city.strike)


def _issue(options: argparse.Namespace) -> int:
    outgoing.free(options.tokens)
    request = outgoing.read(options.request, MOST_REQUEST, "the request")
    with operator.open_city(options.city, options.operator_key_file) as city:
        answer = city.tokens(request)
    outgoing.write(options.tokens, answer)
    print(f"{options.tokens} answers the request: give it to who sent it.", flush=True)
    return 0


def _refuse(path: Path, why: DatasovError) -> int:
    print(f"datasov: {path}: {why}", file=sys.stderr)
    return 1
