"""The options of `datasov vault` and what its help says."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasov.commands import secret

Run = Callable[[argparse.Namespace], int]

_ABOUT = """A vault is a folder that holds one resident's tables, encrypted: only its passphrase or key opens it.

Passphrases are asked for without echo. Scripts give a file that holds one (--passphrase-file), or - for standard input;
no option takes a secret itself, since arguments show in the list of processes and in a shell's history.

Exit codes: 0 done; 1 refused, failed, or (check) something is damaged; 2 cannot be run as asked."""


def add_commands(commands: Any, run: Mapping[str, Run]) -> None:
    """Add `vault` and its commands; `run` has a function for each, by its name."""
    vault = commands.add_parser(
        "vault", help="keep your own data: create a vault, put, show, export, import, merge, check, erase",
        description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parsers = vault.add_subparsers(dest="vault_command", required=True, metavar="COMMAND")

    def command(name: str, help_: str, more: str = "", *, opens: bool = True, among: Any = parsers) -> Any:
        about = f"{help_[0].upper()}{help_[1:]}. {more}".strip()
        parser = among.add_parser(name.split()[-1], help=help_, description=about, allow_abbrev=False)
        parser.add_argument("vault", type=Path, metavar="VAULT", help="the vault's folder")
        if opens:
            secret.add_options(parser)
        parser.set_defaults(run=run[name])
        return parser

    command(
        "create", "make a new vault",
        "It is opened by a passphrase, which is asked for twice, or by a device key: a file that is made where it is "
        "not there, or what --keyring or --device-file keep.",
    )  # fmt: skip

    put = command(
        "put", "add the rows of a CSV or Parquet file to a table: all of them, or none",
        "CSV is in UTF-8 with commas and a header; an empty field is a null, a quoted empty one an empty text.",
    )  # fmt: skip
    put.add_argument("table", metavar="TABLE", help="the table's name")
    put.add_argument("file", type=Path, metavar="FILE", help="a .csv or .parquet file")
    put.add_argument(
        "--schema",
        type=Path,
        metavar="JSON",
        help="the table's schema, at its first rows; one of the catalogue needs none",
    )

    show = command(
        "show", "list the tables with their numbers of rows, or rows of one",
        "Rows are shown only where --table asks for them.",
    )  # fmt: skip
    show.add_argument("--table", metavar="TABLE", help="show rows of this table")
    show.add_argument("--rows", type=_count, default=10, metavar="N", help="at most so many (default: %(default)s)")
    show.add_argument("--json", action="store_true", help="one JSON object on standard output")

    export = command(
        "export", "write all tables in an open format, with their schemas and a manifest of hashes",
        "Into a new folder, in the clear, or into one new file that age seals (age-encryption.org).",
    )  # fmt: skip
    export.add_argument("target", type=Path, metavar="TARGET", help="a path where nothing is yet")
    export.add_argument(
        "--form", choices=["parquet", "csv", "json"], default="parquet", help="of the tables (default: %(default)s)"
    )
    wrap = export.add_mutually_exclusive_group()
    wrap.add_argument(
        "--age-recipient", action="append", default=[], metavar="age1...", help="seal it to this key (may be repeated)"
    )
    wrap.add_argument("--age-passphrase", action="store_true", help="seal it with a passphrase, which is asked for")
    wrap.add_argument("--age-passphrase-file", metavar="FILE", help="seal it with the first line of this file")

    import_ = command(
        "import", "put all of an export into a vault that holds no rows of its tables: all of it, or nothing",
        "Every file is checked against the manifest before anything is put.",
    )  # fmt: skip
    import_.add_argument("source", type=Path, metavar="SOURCE", help="the folder or the age file that was exported")
    unwrap = import_.add_mutually_exclusive_group()
    unwrap.add_argument("--age-identity", type=Path, metavar="FILE", help="a file with the key, as age-keygen makes it")
    unwrap.add_argument("--age-passphrase-file", metavar="FILE", help="the first line of this file opens it")

    evolve = command(
        "evolve", "give a table a schema that follows the one it has, without writing rows anew",
        "Bounds and categories may grow, columns may come (nullable, or with --fill) and go.",
    )  # fmt: skip
    evolve.add_argument("schema", type=Path, metavar="JSON", help="the new schema")
    evolve.add_argument(
        "--fill", action="append", default=[], metavar="COLUMN=VALUE", help="what earlier rows hold in an added column"
    )

    enrol = command("enrol", "make the vault once more, for another device of yours, under a passphrase of its own")
    enrol.add_argument("target", type=Path, metavar="TARGET", help="a path where nothing is yet")
    secret.add_options(enrol, prefix="new-", whose="the new one")

    known = command(
        "enrolment-key", "print the key that the aggregators of a city enrol you by",
        "Show it where your identity is checked. All your devices print the same one.",
    )  # fmt: skip
    known.add_argument("--city", required=True, metavar="ID", help="the city's id, as `datasov city show` prints it")

    merge = command(
        "merge", "take in what only another device's vault holds", "The other one is read, and stays as it is."
    )
    merge.add_argument("other", type=Path, metavar="OTHER", help="the other device's vault")
    secret.add_options(merge, prefix="other-", whose="the other one")

    about = "list, add, remove and replace what opens the vault"
    keys = parsers.add_parser("keys", help=about, description=f"{about[0].upper()}{about[1:]}.")
    ways = keys.add_subparsers(dest="keys_command", required=True, metavar="ACTION")
    listed = command("keys list", "show what can open the vault", "It needs no passphrase.", opens=False, among=ways)
    listed.add_argument("--json", action="store_true", help="one JSON object on standard output")
    added = command("keys add", "let something more open the vault", among=ways)
    added.add_argument("--label", default="", metavar="TEXT", help="what to call it")
    removed = command("keys remove", "shut something out that opened the vault", among=ways)
    removed.add_argument("id", nargs="+", metavar="ID", help="as `keys list` shows it")
    replaced = command(
        "keys replace", "new secrets for everything that opens the vault, so that no old one does", among=ways
    )

    check = command("check", "read every byte of the vault, and say whether all is as it was written")
    check.add_argument("--json", action="store_true", help="one JSON object on standard output")

    command("compact", "gather small appends into larger files, and remove what crashes left behind")

    erase = command(
        "erase", "destroy the vault: first its keys, then the rest",
        "It asks for the vault's name, and needs no passphrase.", opens=False,
    )  # fmt: skip
    domain = command(
        "erase-domain", "destroy every table of a domain, and replace every key",
        "An older key opens older copies of the files still: so every key is replaced.",
    )  # fmt: skip
    domain.add_argument("domain", metavar="DOMAIN", help="the domain's name")
    for parser in (erase, domain):
        parser.add_argument("--yes", action="store_true", help="do not ask")
    for parser in (added, replaced, domain):
        parser.add_argument(
            "--recovery", action="store_true", help="make a new recovery key, and show it to be printed"
        )
        secret.add_options(parser, prefix="new-", whose="it from then on", device=parser is added)
    for parser in (replaced, domain):
        parser.add_argument(
            "--drop", action="append", default=[], metavar="ID", help="what gets no new secret (may be repeated)"
        )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("zero or more")
    return number
