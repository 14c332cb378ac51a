"""`datasov aggregator`: make an aggregator of the two-server trust model, and run it."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datasov.aggregator import app, place
from datasov.commands import approvals
from datasov.errors import MissingExtraError


def add(commands: Any) -> None:
    """Add the command and its parts."""
    parser = commands.add_parser(
        "aggregator", help="run one of the two servers that add shares",
        description="One of the two servers that add what no one server can read. Run two, under owners who do not "
        "answer to each other, and name both in the trust of a city: docs/spec/two-server.md.",
    )  # fmt: skip
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    init = parts.add_parser("init", help="make one, and print its id")
    init.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a new folder; its secret lies beside it, as FOLDER.key"
    )
    init.add_argument("--name", required=True, metavar="TEXT", help="for people")
    init.add_argument("--url", required=True, metavar="URL", help="where it will answer, without a slash at the end")
    init.add_argument(
        "--budget", type=approvals.loss, required=True, metavar="LOSS",
        help="the most that all its shares may ever cost, like rho=1; fixed for good",
    )  # fmt: skip
    init.set_defaults(run=_init)
    serve = parts.add_parser("serve", help="run it until it is ended")
    serve.add_argument("folder", type=Path, metavar="FOLDER", help="that `init` made")
    serve.add_argument(
        "--city", action="append", required=True, metavar="ID", help="a city whose tasks it takes (may be repeated)"
    )
    serve.add_argument("--bind", metavar="HOST:PORT", help="where to listen (default: what its address says)")
    serve.set_defaults(run=_serve)


def _init(options: argparse.Namespace) -> int:
    print(place.make(options.folder, name=options.name, url=options.url, budget=options.budget), flush=True)
    return 0


def _serve(options: argparse.Namespace) -> int:
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("an aggregator serves over HTTP: pip install 'datasov[two-server]'") from None
    opened = place.open_(options.folder, options.city, clock=time.time)
    try:
        where = urlsplit("//" + options.bind if options.bind else opened.aggregator.me.url)
        logging.basicConfig(level=logging.WARNING)
        uvicorn.run(
            app.app(opened.handle, opened.aggregator.work), host=where.hostname or "127.0.0.1",
            port=where.port or (443 if where.scheme == "https" else 80), log_level="warning", access_log=False,
        )  # fmt: skip
    finally:
        opened.close()
    return 0
