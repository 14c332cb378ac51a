"""`datasov consent answer`: what a device says to a task of its city, and to whom.

All that shows here follows from the task and the options alone: the lines, the exit code, when the report leaves. What
the report says, or that it says nothing, is not known to this file.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from datasov.aggregator.client import over_http, with_city
from datasov.commands import outgoing
from datasov.commands.collecting import MOST_REQUEST
from datasov.commands.outgoing import Place, place
from datasov.errors import ConsentError, DatasovError, InvalidDataError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId
from datasov.mpc.noised import NoisedReport
from datasov.mpc.task import MOST_TASK, Task, read_task
from datasov.remote import Remote
from datasov.resident import Resident
from datasov.wire import cbor

Open = Callable[[argparse.Namespace], Resident]
Reach = Callable[[AggregatorId | CityId, str, bytes], bytes]


class _Asked(Exception):
    """A request for a token was made, and is to travel as a file."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


def add(command: Callable[..., Any], open_: Open) -> None:
    """Add `answer` to the commands of `datasov consent`; `open_` opens the vault that the options name."""
    answered = command(
        "answer", lambda options: _answer(options, open_), "answer a task that the city gave out, or all that are open",
        "Every device answers every task, also where nothing was granted or its owner refuses: then the report says "
        "nothing, and nobody can tell it from another one. Under two servers it is sent to the first of them, under "
        "local trust it goes to the city. The first answer to a task stands: a second time the same one is given, "
        "whatever is asked for then.",
    )  # fmt: skip
    answered.add_argument(
        "task", type=place, metavar="TASK",
        help="the file that `datasov city collect` wrote, or the address of the city's gateway: all its open tasks, "
        "each compared with the city's log",
    )  # fmt: skip
    answered.add_argument(
        "--refuse", action="store_true", help="say nothing, whatever was granted; all that shows is the same"
    )
    answered.add_argument(
        "--to", type=place, metavar="FILE",
        help="under local trust: a path where nothing is yet, for the city, or the address of its gateway",
    )  # fmt: skip
    answered.add_argument(
        "--later", action="store_true",
        help="fetch tokens and make the report, and let nothing leave yet: run it again at another time, or by another "
        "network, so that no server sees by the time who it is that sends",
    )  # fmt: skip
    answered.add_argument("--city", metavar="ID", help="answer only this city; an address needs it")
    answered.add_argument(
        "--wait", type=_seconds, default=1.0, metavar="SECONDS",
        help="the report leaves 1, 2, 4 ... times so long after it was begun, so that it does not tell how long your "
        "rows took (default: %(default)s)",
    )  # fmt: skip
    files = answered.add_mutually_exclusive_group()
    files.add_argument(
        "--token-request", type=Path, metavar="FILE",
        help="where the city enrols and no gateway is at hand: write a request for a token, for `datasov city issue`",
    )  # fmt: skip
    files.add_argument("--tokens", type=Path, metavar="FILE", help="and then answer with what the city gave for it")


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError("seconds from 0 to 3600")
    return number


def _answer(options: argparse.Namespace, open_: Open) -> int:
    if isinstance(options.task, str):
        return _answer_all(options, options.task, open_)
    data = outgoing.read(options.task, MOST_TASK, "the task")
    _check(read_task(data), options)
    with open_(options) as resident, _reach(options, options.to) as reach:
        try:
            _one(resident, data, options, options.to, reach)
        except _Asked as asked:
            outgoing.write(options.token_request, asked.body)
            print(
                f"{options.token_request} asks for a token: give it to the city, and answer with --tokens.", flush=True
            )
    return 0


def _answer_all(options: argparse.Namespace, address: str, open_: Open) -> int:
    if options.city is None:
        raise InvalidDataError("whose tasks? Give the city's id, which you have from elsewhere, with --city ID")
    if options.to or options.tokens or options.token_request:
        raise InvalidDataError("all goes to the address that the tasks come from: give it alone")
    city = CityId.parse(options.city)
    with (
        open_(options) as resident, Remote(address) as gateway, Remote(f"{address.rstrip('/')}/log") as log,
        _reach(options, address) as reach,
    ):  # fmt: skip
        tasks = resident.tasks(gateway.tasks(), log.log(city.verify_key), city=city)
        done = 0
        for data in tasks:
            try:
                _one(resident, data, options, address, reach)
                done += 1
            except DatasovError as why:
                print(f"datasov: task {read_task(data).id.hex()[:16]}: {why}", file=sys.stderr)
    print(f"{done} of {len(tasks)} open tasks.", flush=True)
    return 0 if done == len(tasks) else 1


def _one(resident: Resident, data: bytes, options: argparse.Namespace, to: Place | None, reach: Reach) -> None:
    task, begun = read_task(data), time.monotonic()
    report = resident.answer(data, refuse=options.refuse, post=reach)
    if options.token_request is not None:
        raise InvalidDataError(
            "the vault keeps an answer to this task already: name a new file for it with --to, and what the city gave "
            "with --tokens"
        )
    _hold(begun, options.wait)
    whose = f"{task.id.hex()[:16]} of {CityId.parse(task.city).name}"
    if options.later:
        print(f"An answer to the task {whose} is kept in the vault: run this again to let it leave.", flush=True)
        return
    if not NoisedReport.is_one(report, task):
        if report:
            over_http(task.trust.aggregators[0], "reports", cbor.encode([report]))
    elif isinstance(to, str):
        with Remote(to) as gateway:
            gateway.report(report)
    else:
        outgoing.write(options.to, report)
    print(f"The task {whose} is answered. What was said shows nowhere, nor here.", flush=True)
    if isinstance(to, Path):
        there = "it" if len(task.trust.each) == 1 else "what is there, if anything,"
        print(f"{to} is for the city: hand {there} over.", flush=True)


@contextlib.contextmanager
def _reach(options: argparse.Namespace, to: Place | None) -> Iterator[Reach]:
    """How tokens are fetched: from the servers over HTTP, from the city by its gateway or by files."""

    def asked(_: str, body: bytes) -> NoReturn:
        raise _Asked(body)

    if isinstance(to, str):
        with Remote(to) as gateway:
            yield with_city(gateway.tokens, over_http)
    elif options.token_request is not None:
        yield with_city(asked, over_http)
    elif options.tokens is not None:
        given = outgoing.read(options.tokens, MOST_REQUEST, "the file with the token")
        yield with_city(lambda _, __: given, over_http)
    else:
        yield over_http


def _check(task: Task, options: argparse.Namespace) -> None:
    """Refuse what cannot be done with this task, before the vault is open."""
    if options.city is not None and CityId.parse(options.city) != CityId.parse(task.city):
        raise ConsentError("the task is another city's: answer it only if you know that city")
    asked, files = task.trust.part("local") is not None, options.tokens or options.token_request
    if asked and options.to is None and options.token_request is None and not options.later:
        raise InvalidDataError(
            "this task is answered to the city: name a new file for it with --to FILE, or its gateway"
        )
    if not asked and options.to is not None:
        raise InvalidDataError("this task is answered to its servers: leave --to away")
    if not task.issuer_key and files:
        raise InvalidDataError("this city issues no tokens itself: leave --token-request and --tokens away")
    if task.issuer_key and not files and not isinstance(options.to, str):
        raise InvalidDataError(
            "this city wants a token with each report: name its gateway with --to https://..., or begin with "
            "--token-request FILE"
        )
    for path in (options.to, options.token_request):
        outgoing.free(path)


def _hold(begun: float, wait: float) -> None:
    """Return at a moment that was fixed before anything was computed, or a later one of few."""
    spent, end = time.monotonic() - begun, wait
    while wait and end < spent:
        end *= 2
    time.sleep(max(0.0, end - spent) if wait else 0.0)
