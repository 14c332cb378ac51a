"""`datasov key`: a signer's own key."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datasov.authority import keyfile
from datasov.commands import secret

_ABOUT = """A member of the council or the assembly signs with a key of their own, in a file that nobody else reads.

Passphrases are asked for without echo, or read from a file (--passphrase-file; - is standard input): never from
arguments, which show in the list of processes.

Exit codes: 0 done; 1 refused or failed; 2 cannot be run as asked."""


def add(commands: Any) -> None:
    """Add `key` with its commands to those of `datasov`."""
    key = commands.add_parser(
        "key", help="make the key with which you sign charters and programmes", description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parsers = key.add_subparsers(dest="key_command", required=True, metavar="COMMAND")
    new = parsers.add_parser(
        "new", help="make a key in a new file", allow_abbrev=False,
        description="Make a key in a new file that its owner alone can read. Its public half is printed: give that to "
        "whoever writes the charter.",
    )  # fmt: skip
    new.add_argument("file", type=Path, metavar="FILE", help="a path where nothing is yet")
    how = new.add_mutually_exclusive_group()
    how.add_argument("--passphrase-file", metavar="FILE", help="the new passphrase is the first line of this file")
    how.add_argument("--no-passphrase", action="store_true", help="whoever can read the file can sign")
    new.set_defaults(run=_new)
    show = parsers.add_parser(
        "show", help="print the public half of a key", allow_abbrev=False,
        description="Print the public half of a key: 64 hexadecimal digits. It needs no passphrase.",
    )  # fmt: skip
    show.add_argument("file", type=Path, metavar="FILE", help="the key's file")
    show.set_defaults(run=_show)


def _new(options: argparse.Namespace) -> int:
    passphrase = None
    if options.passphrase_file:
        passphrase = secret.line(options.passphrase_file)
    elif not options.no_passphrase:
        passphrase = secret.ask(f"New passphrase for {options.file}", twice=True)
    print(keyfile.create(options.file, passphrase).hex(), flush=True)
    return 0


def _show(options: argparse.Namespace) -> int:
    print(keyfile.public_of(options.file).hex(), flush=True)
    return 0
