"""`datasov city`: a city's operator at the command line."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from datasov.city import City
from datasov.commands import asking, collecting, operator, outgoing, show, trusts
from datasov.commands.nested import nested
from datasov.errors import StoreError
from datasov.tlog.export import write_log
from datasov.tlog.note import vkey
from datasov.upkeep.archive import check as check_backup
from datasov.upkeep.check import check
from datasov.upkeep.rotate import GRACE

_ABOUT = """A city is a folder; its operator's key and its anchor lie beside it, as CITY.key and CITY.anchor.

Where the key is kept elsewhere, --operator-key-file names a file that holds it, 32 bytes; /dev/fd/N is a descriptor. No
option takes the key itself, since arguments show in the list of processes and in a shell's history.

Exit codes: 0 done; 1 refused, failed, or (check) something is damaged; 2 cannot be run as asked."""
DAY = 86_400


def add(commands: Any) -> None:
    """Add `city` with its commands to those of `datasov`."""
    command = nested(
        commands, "city", "keep a city: found, show, check, back up, restore, change its key, bring it to this version",
        _ABOUT, _city,
    )  # fmt: skip

    operator.add_founding(command)
    asking.add(command)
    collecting.add(command)

    shown = command("show", _show, "show the id, the budget and what is left, the purposes, the log and the charter")
    shown.add_argument("--json", action="store_true", help="one JSON object on standard output")

    checked = command(
        "check", _check, "read all of a city, and say whether its database, pool, log and anchor are whole"
    )
    checked.add_argument("--json", action="store_true", help="one JSON object on standard output")

    backed = command(
        "backup", _backup, "write a backup to a new file, while the city is in use",
        "It is sealed under the operator's key, which is not in it: keep the key elsewhere too.",
    )  # fmt: skip
    backed.add_argument("backup", type=Path, metavar="FILE", help="a path where nothing is yet")

    restored = command(
        "restore", _restore, "put a city back from a backup: the newest state, or not at all",
        "CITY is where nothing is yet; the key lies beside it already, and the anchor, where it was not lost. The "
        "anchor, or a checkpoint that somebody else holds (--log-head), tells that nothing was answered after the "
        "backup: so no budget is refilled.",
    )  # fmt: skip
    restored.add_argument("backup", type=Path, metavar="FILE", help="what `backup` wrote")
    operator.add_store(restored)
    restored.add_argument(
        "--log-head", type=Path, metavar="NOTE", help="a signed checkpoint of the log, the newest that anybody has"
    )
    restored.add_argument(
        "--reanchor", action="store_true",
        help="take this copy for the newest although the anchor is lost or ahead of it: what was spent since is "
        "forgotten, and a notice in the log tells everybody",
    )  # fmt: skip

    rotated = command(
        "rotate", _rotate, "give the city another operator's key, and seal all of it anew",
        "No process may have the city open. Its id changes; the log tells everybody, under both keys.",
    )  # fmt: skip
    rotated.add_argument(
        "--new-key-file", type=Path, metavar="FILE",
        help="a file that holds the new key, 32 bytes; without it one is drawn, where the key is CITY.key",
    )  # fmt: skip
    rotated.add_argument(
        "--grace", type=_days, default=GRACE // DAY, metavar="DAYS",
        help="take contributions that are sealed to the old id for so long; 0 after a theft (default: %(default)s)",
    )  # fmt: skip

    told = command(
        "trust", _trust, "write who adds, signed, to a new file for residents",
        "`datasov consent grant --trust-file` reads it. Nothing in it is secret; give it to everybody.",
    )  # fmt: skip
    told.add_argument("file", type=Path, metavar="FILE", help="a path where nothing is yet")

    command(
        "migrate", _migrate, "bring a city that an older version wrote to this version, after a backup beside it",
        "No process may have the city open.",
    )  # fmt: skip

    exported = command(
        "export-log", _export, "write the log with its signed checkpoint to a new file",
        "Residents read it with `datasov receipts --log FILE`, offline.",
    )  # fmt: skip
    exported.add_argument("file", type=Path, metavar="FILE", help="a path where nothing is yet")


def _say(text: str) -> None:
    print(text, flush=True)


def _days(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("zero or more days")
    return number


def _open(options: argparse.Namespace) -> City:
    return operator.open_city(options.city, options.operator_key_file)


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _city(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("city", type=Path, metavar="CITY", help="the city's folder")
    operator.add_option(parser)


def _show(options: argparse.Namespace) -> int:
    with _open(options) as city:
        head = city.log.checkpoint()
        found = {
            "id": str(city.id), "name": city.id.name, "budget": str(city.budget), "remaining": str(city.remaining),
            "allowance": str(city.allowance), "purposes": list(city.purposes), "trust": city.trust.name,
            "epoch": city.epoch, "answers": len(city.releases()), "origin": head.origin, "size": head.size,
            "root": head.root.hex(), "verifier": vkey(head.origin, city.log.public),
            "charter": city.charter and city.charter.version,
        }  # fmt: skip
        trust = city.trust
        programmes = {a.identity.hex(): a.programme.name for a in city.programmes}
        if options.json:
            more = {
                "programmes": programmes, "checkpoint": head.note.decode(), "trusts": [t.name for t in trust.each],
                "trusted": trust.trusted, "aggregators": [str(a) for a in trust.aggregators],
            }  # fmt: skip
            _say(json.dumps({**found, **more}, ensure_ascii=False))
            return 0
    _say(show.table(["city", city.id.name], [
        ["id", found["id"]], ["budget", found["budget"]], ["left of it", found["remaining"]],
        ["left in this period", found["allowance"]], ["purposes", ", ".join(city.purposes)],
        ["trust", trusts.names(trust)], *trusts.lines(trust, whole=True),
        ["data epoch", str(found["epoch"])], ["answers", str(found["answers"])], ["log", found["origin"]],
        ["its verifier key", found["verifier"]],
        ["leaves in it", str(found["size"])], ["charter", str(found["charter"] or "none")],
        *(["programme", f"{name} {identity[:16]}"] for identity, name in programmes.items()),
    ]))  # fmt: skip
    return 0


def _check(options: argparse.Namespace) -> int:
    found = check(options.city, operator.key_of(options.operator_key_file))
    bad = [f for f in found if f.fault is not None]
    if options.json:
        parts = [{"part": f.part, "count": f.count, "fault": f.fault} for f in found]
        _say(json.dumps({"whole": not bad, "parts": parts}))
    else:
        _say(show.table(["part", "read", "state"], [[f.part, f.count, f.fault or "whole"] for f in found]))
    return 1 if bad else 0


def _backup(options: argparse.Namespace) -> int:
    with _open(options) as city:
        city.backup(options.backup)
    header = check_backup(options.backup)
    _say(f"{options.backup} holds the city as it was at {_date(header.time)}. It opens with the operator's key alone.")
    return 0


def _restore(options: argparse.Namespace) -> int:
    try:
        head = None if options.log_head is None else options.log_head.read_bytes()
    except OSError as fault:
        raise StoreError(f"the checkpoint cannot be read: {fault.strerror or fault}") from None
    with City.restore(
        options.backup, options.city, operator_key=operator.key_of(options.operator_key_file), log_head=head,
        reanchor=options.reanchor, store=operator.store_of(options),
    ) as city:  # fmt: skip
        _say(
            f"{options.city} is restored: {city.remaining} of {city.budget} is left, {city.log.size} leaves in the log."
        )
    return 0


def _rotate(options: argparse.Namespace) -> int:
    new = operator.key_of(options.new_key_file)
    identity = _open(options).rotate(new, grace=options.grace * DAY)
    _say(f"The city has another key. Its id is from now on:\n{identity}")
    return 0


def _trust(options: argparse.Namespace) -> int:
    with _open(options) as city:
        outgoing.write(options.file, city.signed_trust())
        name, trust = city.id.name, city.trust
    _say(f"{options.file} says who adds for {name} ({trusts.names(trust)}): give it to residents.")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    backup = City.migrate(options.city, operator_key=operator.key_of(options.operator_key_file))
    done = "nothing to do: the city is of this version" if backup is None else f"done; as it was, it is in {backup}"
    _say(f"{done[0].upper()}{done[1:]}.")
    return 0


def _export(options: argparse.Namespace) -> int:
    with _open(options) as city:
        size = write_log(city.log, options.file)
    _say(f"{options.file} holds {size} leaves and their checkpoint.")
    return 0
