"""`datasov aggregator`: make an aggregator of the two-server trust model, and run it."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datasov.aggregator import app, place
from datasov.aggregator.door import CONNECTIONS
from datasov.commands import approvals, rolls
from datasov.commands.nested import nested
from datasov.errors import MissingExtraError

_ABOUT = """One of the two servers that add what no one server can read. Run two, under owners who do not answer to each
other, and name both in the trust of a city: docs/spec/two-server.md.

Exit codes: 0 done; 1 refused or failed; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add the command and its parts."""
    command = nested(commands, "aggregator", "run one of the two servers that add shares", _ABOUT)
    init = command("init", _init, "make one, and print its id")
    init.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a new folder; its secret lies beside it, as FOLDER.key"
    )
    init.add_argument("--name", required=True, metavar="TEXT", help="for people")
    init.add_argument("--url", required=True, metavar="URL", help="where it will answer, without a slash at the end")
    init.add_argument(
        "--budget", type=approvals.loss, required=True, metavar="LOSS",
        help="the most that all its shares may ever cost, like rho=1; fixed for good",
    )  # fmt: skip
    init.add_argument(
        "--without-tokens", action="store_true",
        help="issue no enrolment tokens and ask for none: a device can then send any number of reports; for good",
    )  # fmt: skip
    enrol = command(
        "enrol", _enrol, "put residents on the roll of a city, from a file",
        f"{rolls.WHO} "
        "The other aggregator's owner does the same on their own. The aggregator may be running.",
    )  # fmt: skip
    enrol.add_argument("folder", type=Path, metavar="FOLDER", help="that `init` made")
    rolls.add_options(enrol)
    enrol.add_argument("--city", required=True, metavar="ID", help="the city whose tasks they answer")
    serve = command("serve", _serve, "run it until it is ended")
    serve.add_argument("folder", type=Path, metavar="FOLDER", help="that `init` made")
    serve.add_argument(
        "--city", action="append", required=True, metavar="ID", help="a city whose tasks it takes (may be repeated)"
    )
    serve.add_argument("--bind", metavar="HOST:PORT", help="where to listen (default: what its address says)")


def _init(options: argparse.Namespace) -> int:
    made = place.make(
        options.folder, name=options.name, url=options.url, budget=options.budget, tokens=not options.without_tokens
    )
    print(made, flush=True)
    return 0


def _enrol(options: argparse.Namespace) -> int:
    return rolls.changed(
        options,
        lambda people: place.enrol(options.folder, options.city, people),
        lambda people: place.strike(options.folder, options.city, people),
    )


def _serve(options: argparse.Namespace) -> int:
    try:
        import uvicorn

        from datasov.gateway.protocol import GuardedProtocol
    except ImportError:
        raise MissingExtraError("an aggregator serves over HTTP: pip install 'datasov[two-server]'") from None
    GuardedProtocol.most, GuardedProtocol.per_address = CONNECTIONS, CONNECTIONS // 4
    opened = place.open_(options.folder, options.city, clock=time.time)
    try:
        where = urlsplit("//" + options.bind if options.bind else opened.aggregator.me.url)
        logging.basicConfig(level=logging.WARNING)
        uvicorn.run(
            app.app(opened.handle, opened.aggregator.work), host=where.hostname or "127.0.0.1",
            port=where.port or (443 if where.scheme == "https" else 80), log_level="warning", access_log=False,
            http=GuardedProtocol,
        )  # fmt: skip
    finally:
        opened.close()
    return 0
