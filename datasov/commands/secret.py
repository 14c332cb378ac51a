"""Passphrases and keys for commands: asked for without echo, or read from a file or a descriptor, never from arguments.

Arguments show in the list of processes and stay in a shell's history, so no option takes a secret itself.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import getpass
import os
import secrets
import signal
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from datasov.errors import DatasovError, InvalidDataError, StoreError
from datasov.vault import KeyFile, Keyring, files
from datasov.vault.device import DeviceStore

_LIMIT = 4096


class NoTerminalError(DatasovError):
    """There is nobody to ask: the command cannot be run as asked."""


class Opening(TypedDict, total=False):
    """What opens a vault, as the library takes it."""

    passphrase: str
    device_key: bytes
    device_secret: bytes
    recovery_key: str
    device: DeviceStore


def add_options(
    parser: argparse.ArgumentParser, *, prefix: str = "", whose: str = "the vault", device: bool = True
) -> None:
    """The options from which :func:`opening` takes what opens a vault."""
    group = parser.add_argument_group(f"what opens {whose}", "without any of these, the passphrase is asked for")
    dest = prefix.replace("-", "_")
    group.add_argument(
        f"--{prefix}passphrase-file", dest=f"{dest}passphrase_file", metavar="FILE",
        help="the passphrase is the first line of this file; - is standard input, /dev/fd/N a descriptor",
    )  # fmt: skip
    group.add_argument(
        f"--{prefix}device-key-file", dest=f"{dest}device_key_file", metavar="FILE", type=Path,
        help="the key that this device keeps, 64 hexadecimal digits; no passphrase is asked for then",
    )  # fmt: skip
    group.add_argument(
        f"--{prefix}device-secret-file", dest=f"{dest}device_secret_file", metavar="FILE", type=Path,
        help="what the passphrase is worth nothing without, 64 hexadecimal digits",
    )  # fmt: skip
    if device:
        group.add_argument(
            f"--{prefix}keyring", dest=f"{dest}keyring", action="store_true",
            help="the system's keyring keeps what this device needs (extra keyring); no passphrase is asked for then",
        )  # fmt: skip
        group.add_argument(
            f"--{prefix}device-file", dest=f"{dest}device_file", metavar="FILE", type=Path,
            help="this file keeps it, as KeyFile(path) in Python does: keys and anchors follow the vault by themselves",
        )  # fmt: skip
        group.add_argument(
            f"--{prefix}ask-passphrase", dest=f"{dest}ask_passphrase", action="store_true",
            help="ask for the passphrase as well: then the device keeps a secret that is worth nothing without it",
        )  # fmt: skip
    if prefix != "new-":
        group.add_argument(
            f"--{prefix}recovery-key-file", dest=f"{dest}recovery_key_file", metavar="FILE",
            help="a recovery key, as it was printed, is the first line of this file; no passphrase is asked for then",
        )  # fmt: skip


def opening(
    options: argparse.Namespace, prompt: str, *, prefix: str = "", new: bool = False, made: list[Path] | None = None
) -> Opening:
    """What the options name, or what is typed.

    Args:
        new: the passphrase is a new one, typed twice; a key file that is not there is made.
        made: the key files that were made are added to it.

    Raises:
        InvalidDataError, StoreError: a file holds no such thing, or cannot be read.
        NoTerminalError: there is none to ask on.
    """
    given = {name: getattr(options, f"{prefix.replace('-', '_')}{name}", None) for name in _NAMES}
    found, kept = Opening(), [] if made is None else made
    if given["device_key_file"] is not None:
        found["device_key"] = _key(given["device_key_file"], new, kept)
    if given["device_secret_file"] is not None:
        found["device_secret"] = _key(given["device_secret_file"], new, kept)
    if given["recovery_key_file"] is not None:
        found["recovery_key"] = line(given["recovery_key_file"])
    if given["keyring"]:
        found["device"] = Keyring()
    elif given["device_file"] is not None:
        found["device"] = KeyFile(given["device_file"])
    if given["passphrase_file"] is not None:
        found["passphrase"] = line(given["passphrase_file"])
    elif not found.keys() & {"device_key", "recovery_key", "device"} or given["ask_passphrase"]:
        found["passphrase"] = ask(prompt, twice=new)
    return found


@contextlib.contextmanager
def taken_back(vault: Path) -> Iterator[list[Path]]:
    """Key files that were made for a vault go again if it is not made; never where one is there that may need them."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in () if os.path.lexists(vault / "VAULT") else made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


_NAMES = (
    "passphrase_file", "device_key_file", "device_secret_file", "recovery_key_file", "keyring", "device_file",
    "ask_passphrase",
)  # fmt: skip


def interruptible() -> None:
    """Let Ctrl-C end a prompt at once: Polars catches the signal so that a read goes on as if nothing was typed."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ask(prompt: str, *, twice: bool = False) -> str:
    """What somebody types on the terminal, without echo; where `twice`, the same once more."""
    interruptible()
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            with open("/dev/tty", "rb", buffering=0):
                pass
            found = _checked(getpass.getpass(f"{prompt}: "))
            if twice and getpass.getpass("The same again: ") != found:
                raise InvalidDataError("the two differ: start again")
        except (OSError, getpass.GetPassWarning):
            raise NoTerminalError(
                "no terminal to ask for the passphrase on: give a file with --passphrase-file, or - for standard input"
            ) from None
        except EOFError:
            raise InvalidDataError("nothing was typed: start again") from None
    return found


def line(path: str) -> str:
    """The first line of a file, or of standard input where it is "-"."""
    try:
        if path == "-":
            data = sys.stdin.buffer.readline(_LIMIT)
        else:
            with open(path, "rb") as file:
                data = file.readline(_LIMIT).removeprefix(codecs.BOM_UTF8)
    except OSError as fault:
        raise StoreError(f"the file with the passphrase cannot be read: {fault.strerror or fault}") from None
    if len(data) == _LIMIT:
        raise InvalidDataError(f"the line with the passphrase is longer than {_LIMIT - 1} bytes: give a shorter one")
    try:
        return _checked(data.rstrip(b"\r\n").decode())
    except UnicodeDecodeError:
        raise InvalidDataError("the passphrase is not in UTF-8: save its file as UTF-8") from None


def _checked(text: str) -> str:
    if not text:
        raise InvalidDataError("a passphrase is a text that is not empty")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise InvalidDataError("the passphrase holds what cannot be typed: check the terminal's encoding, UTF-8")
    return text


def _key(path: Path, new: bool, made: list[Path]) -> bytes:
    """The 32 bytes of a key file; where it is new and not there, random ones, written for the owner alone."""
    try:
        if new and not os.path.lexists(path):
            key = secrets.token_bytes(32)
            files.create_new(path, key.hex().encode() + b"\n")
            made.append(path)
            return key
        with open(path, "rb") as source:
            key = bytes.fromhex(source.read(_LIMIT).decode("ascii").strip())
    except OSError as fault:
        raise StoreError(f"the key file cannot be used: {fault.strerror or fault}") from None
    except ValueError:
        key = b""
    if len(key) != 32:
        raise InvalidDataError("a key file holds 64 hexadecimal digits: let `datasov vault create` make one")
    return key
