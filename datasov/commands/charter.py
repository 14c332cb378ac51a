"""`datasov charter`: who may allow questions in a city, written, signed, collected and checked with files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov.authority import approval
from datasov.authority.approval import Signed
from datasov.authority.charter import missing, read_charter
from datasov.commands import approvals, operator, words
from datasov.commands.nested import nested
from datasov.errors import InvalidDataError
from datasov.model.charter import CHARTER, Charter
from datasov.model.consent import CityId

_ABOUT = """A charter names a city's council and its residents' assembly, by the keys of their members, and how
many of each must sign: a programme (datasov programme), and the charter's own successor.

new or rotate writes it, unsigned, as readable JSON. Each member signs it on a device of their own and sends the
signature by e-mail or on paper; one of them collects the signatures, and anybody checks. Members compare the
fingerprint, so that all mean one text. The city adopts it: datasov charter adopt, or city.adopt.

Exit codes: 0 done, and in check nothing is missing; 1 refused, or signatures are missing; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add `charter` with its commands to those of `datasov`."""
    inside = nested(commands, "charter", "write, sign, collect and check who may allow questions in a city", _ABOUT)

    def command(name: str, help_: str, more: str = "") -> argparse.ArgumentParser:
        return inside(name, _RUN[name], help_, more)

    new = command("new", "write a city's first charter, unsigned", "Options go before what --from says.")
    new.add_argument("out", type=Path, metavar="OUT", help="a path where nothing is yet")
    new.add_argument("--city", metavar="ID", help="the city's id, as `datasov city key` or `city show` prints it")
    new.add_argument("--from", dest="template", type=Path, metavar="JSON", help="a charter, or parts of one")
    _contents(new)
    rotate = command(
        "rotate", "write the charter that follows another one, unsigned",
        "What no option names stays as it is. Both the old groups and the new ones must sign it.",
    )  # fmt: skip
    rotate.add_argument("previous", type=Path, metavar="PREVIOUS", help="the present charter, signed")
    rotate.add_argument("out", type=Path, metavar="OUT", help="a path where nothing is yet")
    rotate.add_argument(
        "--withdraw", action="append", metavar="ID",
        help="end the programme of this identity, 64 hexadecimal digits (may be repeated)",
    )  # fmt: skip
    _contents(rotate)
    _, _, check = approvals.shared(command, "charter")
    check.add_argument("--previous", type=Path, metavar="SIGNED", help="the charter that it follows")
    adopt = command("adopt", "let a city on this machine take up a signed charter")
    adopt.add_argument("city", type=Path, metavar="CITY", help="the city's folder")
    adopt.add_argument("signed", type=Path, metavar="SIGNED", help="what `collect` wrote")
    operator.add_option(adopt)


def _contents(parser: argparse.ArgumentParser) -> None:
    for group in ("council", "assembly"):
        parser.add_argument(
            f"--{group}", action="append", type=approvals.member, metavar="NAME=KEY", help=f"a member of the {group}"
        )
        parser.add_argument(f"--{group}-threshold", type=int, metavar="K", help="how many of them must sign")
        parser.add_argument(
            f"--{group}-emergency", type=int, metavar="K", help="how many in an emergency: more; 0 for no emergencies"
        )
    parser.add_argument("--emergency-days", type=int, metavar="DAYS", help="the longest emergency programme, up to 14")
    parser.add_argument(
        "--notice-days", type=int, metavar="DAYS", help="from an ordinary approval to its start (default: 7)"
    )
    parser.add_argument("--expires", type=approvals.moment, metavar="DAY", help="the charter's end, like 2029-04-01")
    parser.add_argument(
        "--open", action="append", type=_open, metavar="PURPOSE:LOSS",
        help="a purpose that needs no programme, and the largest loss of a question, like bus-planning:rho=0.001",
    )  # fmt: skip
    parser.add_argument(
        "--operator", action="append", type=approvals.member, metavar="NAME=KEY",
        help="who runs the city; the city's own key where none is given",
    )  # fmt: skip


def _filled(options: argparse.Namespace, document: dict[str, Any]) -> dict[str, Any]:
    """The document with what the options say in place of what it says."""
    found = {"type": CHARTER, "emergency_days": 0, "notice_days": 7, "open": [], "withdrawn": [], **document}
    found["issued"] = approvals.now()
    for group in ("council", "assembly"):
        old = found.get(group) or {"keys": [], "threshold": 0, "emergency": 0}
        given = {
            "keys": getattr(options, group), "threshold": getattr(options, f"{group}_threshold"),
            "emergency": getattr(options, f"{group}_emergency"),
        }  # fmt: skip
        found[group] = {**old, **{name: value for name, value in given.items() if value is not None}}
    for name in ("emergency_days", "notice_days", "expires"):
        if getattr(options, name) is not None:
            found[name] = getattr(options, name)
    if options.open is not None:
        found["open"] = options.open
    if options.operator is not None:
        found["operators"] = options.operator
    return found


def _open(text: str) -> dict[str, Any]:
    purpose, _, loss = text.rpartition(":")
    return {"purpose": purpose, "loss": approvals.loss(loss).document()}


def _new(options: argparse.Namespace) -> int:
    document = approvals.template_of(options.template)
    if options.city is not None:
        document["city"] = options.city
    if isinstance(city := document.get("city"), str) and "operators" not in document:
        document["operators"] = [{"name": "operator", "key": CityId.parse(city).verify_key.hex()}]
    return approvals.write_document(options.out, CHARTER, _filled(options, {**document, "version": 1}))


def _rotate(options: argparse.Namespace) -> int:
    old = approvals.signed_charter(options.previous)
    document = {**old.document(), "version": old.version + 1, "withdrawn": options.withdraw or []}
    return approvals.write_document(options.out, CHARTER, _filled(options, document))


def _check(options: argparse.Namespace) -> int:
    found = approvals.gathered(options, CHARTER)
    approvals.say(approvals.told(CHARTER, found.document))
    charter, by = read_charter(found), approval.signers(found)
    groups: list[tuple[str, Charter]] = [("Its own groups", charter)]
    if options.previous is not None:
        old = approvals.signed_charter(options.previous)
        if old.version + 1 != charter.version or old.city != charter.city:
            raise InvalidDataError(f"it is no successor of {options.previous}: see the version and the city of each")
        groups.append((f"The groups of version {old.version}", old))
    elif charter.version > 1:
        approvals.say(["Whether the groups of the version before signed is not looked at: give --previous."])
    for name, whose in groups:
        approvals.say([f"{name}:", *(f"  {line}" for line in words.standing(whose, by))])
    complete = not any(any(missing(whose, by).values()) for _, whose in groups)
    approvals.say(["Nothing is missing." if complete else "Signatures are missing."])
    return 0 if complete and (options.previous is not None or charter.version == 1) else 1


def _adopt(options: argparse.Namespace) -> int:
    with operator.open_city(options.city, options.operator_key_file) as city:
        charter = city.adopt(Signed.from_bytes(approvals.read(options.signed)))
        approvals.say([f"{city.id.name} is under charter {charter.version} now; its notice is in the log."])
    return 0


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "new": _new, "rotate": _rotate, "check": _check, "adopt": _adopt,
    "sign": lambda options: approvals.sign(options, CHARTER),
    "collect": lambda options: approvals.collect(options, CHARTER),
}  # fmt: skip
