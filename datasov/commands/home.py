"""`datasov home`: the resident's page in a browser on this machine."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasov.commands import operator, secret
from datasov.errors import InvalidDataError, InvalidQueryError, StoreError
from datasov.home import desk, logs, sending, serve
from datasov.home.outbox import Outbox
from datasov.model.consent import CityId
from datasov.remote import is_address
from datasov.resident import Resident

_ABOUT = """See and steer your own vault in a browser: data, consents, who asked what and why, what it cost, delegation,
export and erasure. It is served on 127.0.0.1 alone, to the one browser that opens the address which is printed here,
once. While it runs the vault is open for writing, so no other command can write to it; it locks by itself after a while
without use. Ctrl-C ends it.

LOG is a city's log: a file that `datasov city export-log` wrote, a mirror that `datasov log publish` wrote, the https
address of such a mirror, or a city's own folder, which then also takes what you sign. URL is the address of a city's
gateway (`datasov serve`): its log is read there, and what you sign is sent there in sealed letters. Without either,
what you sign is kept as files for the city.

Exit codes: 0 ended; 1 failed; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add `home` to the commands of `datasov`."""
    parser = commands.add_parser(
        "home", help="see and steer your vault in a browser on this machine", description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("vault", nargs="?", type=Path, metavar="VAULT", help="the vault's folder")
    parser.add_argument("--demo", action="store_true", help="instead of VAULT: a simulated one, gone at the end")
    parser.add_argument(
        "--log", action="append", default=[], metavar="LOG", help="a city's log (may be repeated, one for each city)"
    )
    parser.add_argument(
        "--city-url", action="append", default=[], metavar="URL",
        help="a city's gateway, like https://city.example: read its log there, and send it what you sign (may be "
        "repeated)",
    )  # fmt: skip
    parser.add_argument("--city", metavar="ID", help="the city's present id, where a mirror's operator changed its key")
    operator.add_option(parser, "where a city's own folder has its key (default: LOG.key)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="where exports go, and what you sign until the city has it (default: VAULT-out)",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="of 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--idle-minutes", type=_minutes, default=desk.IDLE // 60, metavar="N",
        help="lock after so long without use (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--unlock-in-page", action="store_true", help="ask for the passphrase in the page, and not here"
    )
    secret.add_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.demo == (options.vault is not None):
        raise InvalidDataError("name one vault, or give --demo to see a simulated one")
    serve.require()
    with _demo(options) if options.demo else _own(options) as found, contextlib.suppress(KeyboardInterrupt):
        serve.serve(found, options.port, _opened)
    return 0


def _opened(address: str, code: str) -> None:
    print(f"Open this address in a browser on this machine. It works once, for one browser:\n\n    {address}\n")
    print(
        f"A browser without JavaScript asks for the code: {code}\nCtrl-C ends the page and locks the vault.", flush=True
    )


@contextlib.contextmanager
def _own(options: argparse.Namespace) -> Iterator[desk.Desk]:
    path: Path = options.vault
    if not (path / "VAULT").is_file():
        raise StoreError(f"no vault is at {path}: check the path, or make one with `datasov vault create`")
    key, city = operator.key_of(options.operator_key_file), _city(options.city)
    gateways = [_gateway(url) for url in options.city_url]
    places = [*options.log, *(f"{url}/log" for url in gateways)]
    sources = [logs.source(where, city=city, operator_key=key) for where in places]
    send = sending.first(sending.folders([Path(w) for w in options.log], key), sending.gateways(gateways, city))
    box = Outbox(options.out or path.with_name(f"{path.name}-out"), send)
    if options.unlock_in_page:
        found = desk.Desk(path, lambda typed: Resident.open(path, passphrase=typed), sources, box)
    else:
        given = secret.opening(options, f"Passphrase of {path}")
        reopen = (
            (lambda typed: Resident.open(path, **{**given, "passphrase": typed})) if "passphrase" in given else None
        )
        found = desk.Desk(path, reopen, sources, box)
        found.take(Resident.open(path, **given))
    found.idle, found.online = options.idle_minutes * 60, any(map(is_address, places))
    try:
        yield found
    finally:
        found.lock()


@contextlib.contextmanager
def _demo(options: argparse.Namespace) -> Iterator[desk.Desk]:
    from datasov.home import example

    print("Making a simulated resident and city ...", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="datasov-home-") as folder,
        example.example(Path(folder), idle=options.idle_minutes * 60) as found,
    ):
        print(f"All of it is made up. The vault's passphrase, should it lock: {example.PASSPHRASE}\n")
        yield found


def _gateway(url: str) -> str:
    if not is_address(url):
        raise InvalidDataError("--city-url is the address of a city's gateway, like https://city.example")
    logs.check_address(url)
    return url.rstrip("/")


def _city(text: str | None) -> CityId | None:
    try:
        return None if text is None else CityId.parse(text)
    except InvalidQueryError as why:
        raise InvalidDataError(f"--city: {why}") from None


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 65_536:
        raise argparse.ArgumentTypeError("a port is from 0 to 65535")
    return number


def _minutes(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1440:
        raise argparse.ArgumentTypeError("from 1 to 1440 minutes")
    return number
