"""Trust models at the command line: how they are named, and who must be trusted for what, in words."""

from __future__ import annotations

import argparse
import base64
import contextlib
from collections.abc import Sequence
from pathlib import Path

from datasov.authority.signed_trust import MOST, read_trust
from datasov.commands import outgoing
from datasov.commands.outgoing import Place, place
from datasov.errors import ConsentError, InvalidDataError, InvalidQueryError
from datasov.model.consent import CityId
from datasov.model.parties import AggregatorId
from datasov.model.privacy import Loss, Trust, central, local, mixed, two_server
from datasov.remote import Remote

TWO = "two-server"
_ROLES = ("leader", "helper")


def parse(text: str) -> Trust:
    """The trust of `central`, `local` or `two-server=LEADER_ID,HELPER_ID`; InvalidQueryError where it is none."""
    name, equals, ids = text.partition("=")
    if text in ("central", "local"):
        return central() if text == "central" else local()
    if name.replace("_", "-") == TWO and equals:
        return _two(ids)
    raise InvalidQueryError(
        "a trust is written central, local, or two-server=LEADER_ID,HELPER_ID, as `datasov aggregator init` prints each"
    )


def _two(ids: str) -> Trust:
    parts = ids.split(",")
    if len(parts) != 2:
        raise InvalidQueryError(
            "two servers are two ids with a comma between them, and none in them: LEADER_ID,HELPER_ID, as "
            "`datasov aggregator init` prints each"
        )
    leader, helper = (AggregatorId.parse(p.strip()) for p in parts)
    return two_server(city=leader, council=helper)


def part(text: str) -> Trust:
    """As :func:`parse`, for an option that argparse reads."""
    try:
        return parse(text)
    except InvalidQueryError as why:
        raise argparse.ArgumentTypeError(str(why)) from None


def several(parts: Sequence[Trust] | None) -> Trust:
    """The trust of all parts that were named; central where none was."""
    if not parts:
        return central()
    return parts[0] if len(parts) == 1 else mixed(parts)


def label(trust: Trust) -> str:
    """What a model is called at the command line."""
    return trust.name.replace("_", "-")


def names(trust: Trust) -> str:
    """The models of a trust: those under one of which each resident answers."""
    return ", ".join(label(t) for t in trust.each)


def lines(trust: Trust, *, whole: bool = False) -> list[tuple[str, str]]:
    """Who must be trusted for what, and who they are: a name and a text for each. `whole`: with servers' keys."""
    told = list[tuple[str, str]]()
    for each in trust.each:
        told.append((f"trusted, {label(each)}", trust.trusted[each.text]))
        told += [
            (role, str(a) if whole else f"{a.name}, at {a.url}")
            for role, a in zip(_ROLES, each.aggregators, strict=False)
        ]
    return told


def add_option(parser: argparse.ArgumentParser) -> None:
    """The options from which :func:`chosen` takes what an owner accepts."""
    parser.add_argument(
        "--trust", metavar="TRUST", default="central",
        help="the one that you accept: central, two-server or local (default: %(default)s). No other is taken for it",
    )  # fmt: skip
    parser.add_argument(
        "--trust-file", type=place, metavar="FILE",
        help="what the city says of its trust, signed, as `datasov city trust` writes it, or the address of the "
        "city's gateway, like https://city.example: two-server needs it, or the ids of both "
        "servers, as two-server=LEADER_ID,HELPER_ID",
    )  # fmt: skip


def _told(where: Place) -> bytes:
    if isinstance(where, Path):
        return outgoing.read(where, MOST, "the city's trust")
    with Remote(where) as gateway, contextlib.suppress(ValueError):
        return base64.b64decode(str(gateway.city().get("signed_trust", "")), validate=True)
    return b""


def chosen(options: argparse.Namespace, city: CityId, loss: Loss) -> Trust:
    """The one trust that a consent is to name, with its parties.

    Raises:
        VerificationError: the file is not this city's. ConsentError: the city has others, which the message names.
        InvalidQueryError, InvalidDataError: no such trust, or not one of this loss, or its parties are not known.
    """
    offered = None if options.trust_file is None else read_trust(_told(options.trust_file), city)
    name = str(options.trust)
    if "=" not in name and offered is not None:
        found: Trust | None = offered.part(name.replace("-", "_"))  # type: ignore[arg-type]
    elif name.replace("_", "-") == TWO:
        raise InvalidDataError(
            "which two servers? Give the city's file with --trust-file, or --trust two-server=LEADER_ID,HELPER_ID"
        )
    else:
        found = parse(name)
    if offered is not None and found not in offered.each:
        raise ConsentError(f"{city.name} does not offer that trust: it offers {names(offered)}; choose with --trust")
    assert found is not None
    if found.name == "local" and loss.measure != "pure":
        raise InvalidDataError("under local trust devices noise in pure epsilon: give the loss as --loss epsilon=1")
    return found
