"""The options of `datasov log` and what its help says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasov.commands import operator
from datasov.commands.outgoing import place

Run = Callable[[argparse.Namespace], int]

_ABOUT = """A city's log tells everybody what was released. Anybody can read, check and compare it without the city.

LOG is a folder: a city's own (its key lies beside it), or a mirror that `publish` wrote; or the address of one, of a
gateway's log like https://city.example/log. Of a mirror --key names the city: its id, as `datasov city show` prints it,
or the log's verifier key. Take it from your consent or from somebody you trust, never from the mirror.

Exit codes: 0 done; 1 refused, failed, or (compare) the log forked; 2 cannot be run as asked."""

_KEY = "the city's id or the log's verifier key; a city's own folder needs none"
_OPERATOR = "where a city's own folder has its key (default: LOG.key)"


def add_commands(commands: Any, run: Mapping[str, Run]) -> None:
    """Add `log` and its commands; `run` has a function for each, by its name."""
    log = commands.add_parser(
        "log", help="read, verify, publish, witness and compare a city's public log",
        description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parsers = log.add_subparsers(dest="log_command", required=True, metavar="COMMAND")

    def command(name: str, help_: str, more: str = "", *, among: Any = parsers) -> Any:
        about = f"{help_[0].upper()}{help_[1:]}. {more}".strip()
        parser = among.add_parser(name.split()[-1], help=help_, description=about, allow_abbrev=False)
        parser.set_defaults(run=run[name])
        return parser

    def reading(parser: Any) -> None:
        parser.add_argument("log", type=place, metavar="LOG", help="a city's folder, a mirror, or its address")
        parser.add_argument("--key", metavar="KEY", help=_KEY)
        operator.add_option(parser, _OPERATOR)

    def policy(parser: Any) -> None:
        parser.add_argument("--policy", type=Path, metavar="FILE", help="demand cosignatures: a C2SP tlog-policy file")
        parser.add_argument(
            "--within", type=_seconds, metavar="SECONDS", help="count no cosignature that is older than that"
        )

    shown = command(
        "checkpoint", "print the log's signed checkpoint, once its signature verifies",
        "Keep it: whoever keeps one notices a log that goes back or forks.",
    )  # fmt: skip
    reading(shown)
    policy(shown)

    verified = command(
        "verify", "read the whole log and check that every leaf is the one that the checkpoint commits to",
        "Nothing that the log answers is believed.",
    )  # fmt: skip
    reading(verified)
    policy(verified)
    verified.add_argument(
        "--remember", type=Path, metavar="FILE",
        help="the checkpoint of the last time: the log must continue it; then FILE gets the new one",
    )  # fmt: skip
    verified.add_argument("--json", action="store_true", help="one JSON object on standard output")

    published = command(
        "publish", "write the log to a folder as tiles, for any static host; only what is new is written",
        "The folder can be copied anywhere. A run that was cut short is taken up by the next.",
    )  # fmt: skip
    reading(published)
    published.add_argument("folder", type=Path, metavar="FOLDER", help="made where nothing is")
    published.add_argument(
        "--cosigned", action="store_true", help="up to the last cosigned checkpoint (of a city's own log)"
    )

    cosigned = command(
        "cosign", "attach a witness's cosignature to a city's checkpoint",
        "The log serves and publishes it with the checkpoint from then on.",
    )  # fmt: skip
    cosigned.add_argument("log", type=Path, metavar="CITY", help="the city's folder")
    operator.add_option(cosigned)
    cosigned.add_argument("note", type=Path, metavar="NOTE", help="what `witness cosign` printed")
    cosigned.add_argument(
        "--witness", action="append", required=True, metavar="KEY",
        help="the witness's verifier key (may be repeated); lines of others are left out",
    )  # fmt: skip

    about = "keep a witness: it cosigns the checkpoints of the logs that it knows, while they only grow"
    witness = parsers.add_parser("witness", help=about, description=f"{about[0].upper()}{about[1:]}.")
    ways = witness.add_subparsers(dest="witness_command", required=True, metavar="ACTION")
    created = command(
        "witness create", "make a witness, with a key of its own, in a new folder",
        "It prints the verifier key, which whoever relies on the witness needs. Never put an older copy of the folder "
        "back: a witness must not forget what it cosigned.", among=ways,
    )  # fmt: skip
    created.add_argument("folder", type=Path, metavar="FOLDER", help="a path where nothing is yet")
    created.add_argument("name", metavar="NAME", help="for instance witness.example.org/lakeside, without spaces")
    trusted = command("witness trust", "let the witness know a log", among=ways)
    trusted.add_argument("folder", type=Path, metavar="FOLDER", help="the witness's folder")
    trusted.add_argument("key", metavar="KEY", help="the city's id or the log's verifier key")
    trusted.add_argument("--replace", action="store_true", help="the log is known by another key, which it gave up")
    trusted.add_argument(
        "--origin", metavar="NAME", help="with --replace: the log's name, where KEY is the id of a city with a new key"
    )
    signed = command(
        "witness cosign", "check that a log continues what the witness saw of it, and print its checkpoint, cosigned",
        "A log that went back or forked is refused; evidence of a fork is kept in the folder.", among=ways,
    )  # fmt: skip
    signed.add_argument("folder", type=Path, metavar="FOLDER", help="the witness's folder")
    signed.add_argument("log", type=place, metavar="LOG", help="a mirror of the log, or its address")

    compared = command(
        "compare", "say whether two checkpoints of one log belong to one tree",
        "Two people who were shown different logs find out so, and get evidence that anybody can verify.",
    )  # fmt: skip
    compared.add_argument("first", type=place, metavar="A", help="a checkpoint's file, a mirror, or its address")
    compared.add_argument("second", type=place, metavar="B", help="another one")
    compared.add_argument("--key", required=True, metavar="KEY", help="the city's id or the log's verifier key")
    compared.add_argument(
        "--log", type=place, metavar="LOG",
        help="a mirror, or the city's folder, that shows the larger of the two trees; needed for different sizes where "
        "neither A nor B is a mirror of it",
    )  # fmt: skip
    operator.add_option(compared, _OPERATOR)
    compared.add_argument("--evidence", type=Path, metavar="FILE", help="where evidence of a fork goes")

    judged = command("evidence", "verify evidence that a log forked, offline")
    judged.add_argument("file", type=Path, metavar="FILE", help="what `compare` or a witness kept")
    judged.add_argument("--key", required=True, metavar="KEY", help="the city's id or the log's verifier key")


def _seconds(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one second")
    return number
