"""`datasov ngsi`: releases to a city OS's broker, and a household's devices into a vault."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.city import City
from datasov.commands import operator, secret, show
from datasov.commands.nested import nested
from datasov.errors import InvalidDataError, StoreError
from datasov.ngsi import entity, standing
from datasov.ngsi.broker import Broker
from datasov.ngsi.intake import take
from datasov.ngsi.mapping import meter, read_mapping
from datasov.ngsi.outbox import Outbox
from datasov.ngsi.publishing import PROJECTIONS, Piece, Report, entities, pieces, publish
from datasov.resident import Resident

_ABOUT = """A city OS's broker (NGSIv2 or NGSI-LD) gets the releases of a city as entities, each once; CITY.outbox
beside the city remembers which broker has what. A household's own devices send theirs to `intake`, which runs at home.

Exit codes: 0 done; 1 refused, failed, or (publish, follow) something is not at the broker; 2 cannot be run as asked."""
_FORMS = {"normalized": entity.normalized, "keyValues": entity.key_values, "ngsi-ld": entity.linked}
_MOST = 8 * 1024 * 1024


def add(commands: Any) -> None:
    """Add `ngsi` with its commands to those of `datasov`."""
    command = nested(
        commands, "ngsi", "a city OS: publish releases to a broker, take in what a household's devices tell", _ABOUT
    )

    shown = command(
        "show", _show, "print the entities of a city's releases, one a line, without sending any",
        "What is printed is what `publish` sends, or of `keyValues` what a consumer may ask for.",
    )  # fmt: skip
    _city(shown)
    shown.add_argument("--form", choices=sorted(_FORMS), default="normalized", help="(default: %(default)s)")

    published = command(
        "publish", _publish, "deliver what a broker does not have yet", "It asks no question and spends no budget."
    )
    followed = command(
        "follow", _follow, "count the steps of the city's open series as they are over, and publish each",
        "The horizon of a series is charged when it is opened, in Python: this charges nothing. Stop it and start it "
        "again as you like: each step is counted once.",
    )  # fmt: skip
    followed.add_argument("--once", action="store_true", help="one round, for a scheduler, and no waiting")
    for parser in (published, followed):
        _city(parser)
        _broker(parser)

    taken = command(
        "intake", _intake, "put entities of a household's own devices into the vault of who lives there",
        "Refused values are listed for you alone, on standard output.",
    )  # fmt: skip
    taken.add_argument("vault", type=Path, metavar="VAULT", help="the vault's folder")
    taken.add_argument("file", metavar="FILE", help="entities or a notification, as JSON; - is standard input")
    taken.add_argument(
        "--mapping", type=Path, action="append", default=[], metavar="JSON",
        help="what entities of a type mean (may be repeated; default: SmartMeteringObservation into electricity)",
    )  # fmt: skip
    taken.add_argument("--unit", metavar="CODE", help="what values are in that tell no unit, like KWH")
    taken.add_argument("--json", action="store_true", help="one JSON object on standard output")
    secret.add_options(taken)


def _city(parser: Any) -> None:
    parser.add_argument("city", type=Path, metavar="CITY", help="the city's folder")
    operator.add_option(parser)
    parser.add_argument(
        "--by", choices=["release", "question"], default="release",
        help="release: each answer has entities of its own; question: each takes the place of the one before it "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--project", action="append", default=[], choices=PROJECTIONS, help="a Smart Data Model too (may be repeated)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of intervals (default: 0.95)")


def _broker(parser: Any) -> None:
    parser.add_argument("--broker", required=True, metavar="URL", help="like http://orion:1026")
    parser.add_argument("--dialect", choices=["ngsiv2", "ngsi-ld"], default="ngsiv2", help="(default: %(default)s)")
    parser.add_argument("--service", default="", metavar="NAME", help="Fiware-Service, or the tenant of NGSI-LD")
    parser.add_argument("--service-path", default="/", metavar="PATH", help="Fiware-ServicePath (default: %(default)s)")
    parser.add_argument("--token-file", metavar="FILE", help="a bearer's token is its first line; - is standard input")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds (default: %(default)s)")
    parser.add_argument("--retries", type=int, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="entities a request (default: %(default)s)")
    parser.add_argument("--outbox", type=Path, metavar="FILE", help="(default: CITY.outbox)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def _given(options: argparse.Namespace) -> Broker:
    token = "" if options.token_file is None else _bytes(options.token_file).split(b"\n")[0].strip().decode("latin-1")
    return Broker(
        options.broker, options.dialect, options.service, options.service_path, token, options.timeout, options.retries,
        batch=options.batch,
    )  # fmt: skip


def _outbox(options: argparse.Namespace) -> Outbox:
    return Outbox(options.outbox or options.city.with_name(options.city.name + ".outbox"))


def _open(options: argparse.Namespace) -> City:
    return operator.open_city(options.city, options.operator_key_file)


def _read(options: argparse.Namespace) -> list[Piece]:
    with _open(options) as city:
        return pieces(city, confidence=options.confidence)


def _show(options: argparse.Namespace) -> int:
    for piece in _read(options):
        for each in entities(piece, options.by, options.project):
            print(json.dumps(_FORMS[options.form](each), ensure_ascii=False), flush=True)
    return 0


def _publish(options: argparse.Namespace) -> int:
    broker, found = _given(options), _read(options)
    with _outbox(options) as outbox:
        report = publish(found, broker, outbox, by=options.by, projections=options.project, progress=_progress(options))
    return _told(options, report)


def _progress(options: argparse.Namespace) -> Callable[[int, int], None] | None:
    if options.json or not sys.stderr.isatty():
        return None

    def told(done: int, of: int) -> None:
        print(f"\rpublished {done} of {of} releases", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return told


def _told(options: argparse.Namespace, report: Report) -> int:
    if options.json:
        failed = [{"release": r, "step": s, "reason": why} for (r, s), why in report.failed]
        counts = {n: len(getattr(report, n)) for n in ("delivered", "known", "superseded", "left")}
        print(json.dumps({**counts, "entities": report.entities, "failed": failed}, ensure_ascii=False), flush=True)
    else:
        print(
            f"{len(report.delivered)} releases delivered, as {report.entities} entities; {len(report.known)} were "
            f"there already; {len(report.superseded)} are older than what is there.", flush=True,
        )  # fmt: skip
    for (release, step), why in report.failed:
        which = release if step is None else f"{release}, step {step}"
        print(f"datasov: {which} is not at the broker: {why}", file=sys.stderr)
    if report.left:
        print(f"datasov: {len(report.left)} more were not tried", file=sys.stderr)
    return 1 if report.failed else 0


def _follow(options: argparse.Namespace) -> int:
    broker = _given(options)
    with _open(options) as city, _outbox(options) as outbox:
        while True:
            waits, failed = list[float](), False
            for each in city.standing():
                reports = list[Report]()
                found = standing.follow(
                    city, each.series, broker, outbox, loss=each.loss, purpose=each.purpose,
                    programme=each.programme or None, by=options.by, projections=options.project,
                    confidence=options.confidence, once=True, told=reports.append,
                )  # fmt: skip
                done = len(found.outputs)
                if reports[0].failed or reports[0].delivered:
                    _told(options, reports[0])
                failed |= bool(reports[0].failed)
                if done < each.series.steps or reports[0].failed:
                    waits.append(standing.pause(each.series, done, time.time(), bool(reports[0].failed)))
            if options.once or not waits:
                return 1 if failed else 0
            time.sleep(min(waits))


def _intake(options: argparse.Namespace) -> int:
    mappings = [read_mapping(_bytes(str(path))) for path in options.mapping] or [meter()]
    if options.unit is not None:
        mappings = [m.assuming(options.unit) for m in mappings]
    if not (options.vault / "VAULT").is_file():
        raise StoreError(f"no vault is at {options.vault}: check the path, or make one with `datasov vault create`")
    body = _bytes(options.file)
    with Resident.open(options.vault, **secret.opening(options, f"Passphrase of {options.vault}")) as resident:
        taken = take(resident, body, mappings)
    refused = [[fault.entity, fault.attribute, fault.reason] for fault in taken.refused]
    if options.json:
        names = ("entity", "attribute", "reason")
        told = [dict(zip(names, row, strict=True)) for row in refused]
        counts = {"put": taken.put, "duplicates": taken.duplicates, "begun": taken.begun}
        print(json.dumps({**counts, "refused": told}, ensure_ascii=False), flush=True)
        return 1 if refused else 0
    print(f"{taken.put} rows put; {taken.duplicates} came before; {taken.begun} meters begin.", flush=True)
    if refused:
        print(show.table(["refused", "attribute", "why"], refused), flush=True)
    return 1 if refused else 0


def _bytes(file: str) -> bytes:
    try:
        if file == "-":
            found = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(file).open("rb") as source:
                found = source.read(_MOST + 1)
    except OSError as fault:
        raise StoreError(f"{file} cannot be read: {fault.strerror or fault}") from None
    if len(found) > _MOST:
        raise InvalidDataError("the file is longer than 8 MiB: give fewer entities at once")
    return found
