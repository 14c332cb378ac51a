"""What `datasov charter` and `datasov programme` share: files in and out, signing, collecting."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasov.authority import approval, keyfile, signature_file
from datasov.authority.approval import Signature, Signed
from datasov.authority.charter import read_charter
from datasov.authority.programme import read_programme
from datasov.commands import secret, words
from datasov.errors import InvalidDataError, InvalidQueryError, StoreError
from datasov.model.charter import CHARTER, Charter, instant, octets, plain
from datasov.model.document import canonical
from datasov.model.privacy import Loss, pure, zcdp
from datasov.model.programme import Programme


def read(path: Path) -> bytes:
    """The bytes of a file of at most 2 MiB; StoreError where it cannot be read, or is longer."""
    try:
        with open(path, "rb") as file:
            data = file.read(approval.MAX_SIGNED + 1)
    except OSError as fault:
        raise StoreError(f"{path} cannot be read: {fault.strerror or fault}") from None
    if len(data) > approval.MAX_SIGNED:
        raise StoreError(f"{path} is longer than 2 MiB: check which file it is")
    return data


def write(path: Path, text: str) -> None:
    """Write a new file; StoreError where there is one already."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise StoreError(f"{path} exists already: choose another path") from None
    except OSError as fault:
        raise StoreError(f"{path} cannot be written: {fault.strerror or fault}") from None


def say(lines: Sequence[str], *, to: Any = None) -> None:
    """Lines on a terminal: what it would obey is shown as an escape."""
    for line in lines:
        print(line if line.isprintable() else ascii(line)[1:-1], file=to or sys.stdout, flush=True)


def document_of(data: bytes, kind: str) -> tuple[Mapping[str, Any], list[Signature]]:
    """The document of a file, unsigned or signed, with the signatures that it carries."""
    found = approval.parse(data)
    if isinstance(found, dict) and set(found) == {"kind", "document", "signatures"}:
        signed = Signed.from_bytes(data)
        about = signed.identity[: approval.ABOUT]
        carried = [Signature(k, about, s) for k, s in signed.signatures.items()]
        if signed.kind != kind:
            raise InvalidDataError(f"this is a {signed.kind}, not a {kind}")
        return signed.document, carried
    if not isinstance(found, dict) or found.get("type") != kind:
        raise InvalidDataError(f"this is no {kind}: check which file it is")
    return found, []


def value_of(kind: str, document: Mapping[str, Any]) -> Charter | Programme:
    """The charter or the programme of a document; VerificationError where it is none."""
    unsigned = Signed(kind, document, {})
    return read_charter(unsigned) if kind == CHARTER else read_programme(unsigned)


def told(kind: str, document: Mapping[str, Any]) -> list[str]:
    """A document in plain words, and the fingerprint that signers compare."""
    value = value_of(kind, document)
    lines = words.charter(value) if isinstance(value, Charter) else words.programme(value)
    return [*lines, f"Fingerprint: {approval.fingerprint(approval.identity(kind, document))}"]


def signed_charter(path: Path) -> Charter:
    """The charter of a file of `datasov charter collect`, once both its groups signed it."""
    found = Signed.from_bytes(read(path))
    charter = read_charter(found)
    by = approval.signers(found)
    for name, group in charter.groups:
        if approval.short(group.keys, group.threshold, by):
            raise InvalidDataError(f"{path} is not signed by enough of its {name}: give the one that was adopted")
    return charter


def sign(options: argparse.Namespace, kind: str) -> int:
    document, _ = document_of(read(options.document), kind)
    passphrase, wrapped = None, keyfile.needs_passphrase(options.key)
    say(told(kind, document), to=sys.stderr)
    if wrapped:
        passphrase = (
            secret.line(options.passphrase_file) if options.passphrase_file
            else secret.ask(f"Passphrase of {options.key}, to sign all of the above")
        )  # fmt: skip
    made = approval.sign(kind, document, keyfile.load(options.key, passphrase))
    text = signature_file.write(
        made, of=f"{kind} {approval.fingerprint(approval.identity(kind, document))}"
    )  # fmt: skip
    if options.out is None:
        print(text, end="", flush=True)
    else:
        write(options.out, text)
        say([f"Your signature is in {options.out}: send it to whoever collects them."])
    return 0


def collect(options: argparse.Namespace, kind: str) -> int:
    found = gathered(options, kind)
    write(options.out, json.dumps(json.loads(found.to_bytes()), indent=1, ensure_ascii=False) + "\n")
    many = "1 signature is" if len(found.signatures) == 1 else f"{len(found.signatures)} signatures are"
    say([f"{many} in {options.out}: see who is missing with check."])
    return 0


def gathered(options: argparse.Namespace, kind: str) -> Signed:
    """The document with the signatures that it carries and those in the other files, each verified."""
    document, found = document_of(read(options.document), kind)
    value_of(kind, document)
    for path in options.signatures:
        data = read(path)
        if data.lstrip().startswith(b"{"):
            other, more = document_of(data, kind)
            if canonical(other) != canonical(document):
                raise InvalidDataError(f"{path} is another document: it was changed, or is another version")
            found += more
            continue
        try:
            found += signature_file.read(data.decode())
        except (InvalidDataError, UnicodeDecodeError) as why:
            raise InvalidDataError(f"{path}: {why if isinstance(why, InvalidDataError) else 'not UTF-8'}") from None
    return approval.signed(kind, document, found)


def loss(text: str) -> Loss:
    """The loss of a text like rho=0.02, rho=0.02,delta=1e-9 or epsilon=0.5."""
    try:
        parts = dict(part.split("=", 1) for part in text.split(","))
        if set(parts) == {"epsilon"}:
            return pure(epsilon=parts["epsilon"])
        if set(parts) in ({"rho"}, {"rho", "delta"}):
            return zcdp(rho=parts["rho"], delta=parts.get("delta", 0))
    except (InvalidQueryError, ValueError) as why:
        if isinstance(why, InvalidQueryError):
            raise argparse.ArgumentTypeError(str(why)) from None
    raise argparse.ArgumentTypeError("a loss is written rho=0.02, rho=0.02,delta=1e-9 or epsilon=0.5")


def moment(text: str) -> str:
    """The time of a day like 2027-04-01, its beginning in UTC, or of a time like 2027-04-01T09:00:00Z."""
    whole = f"{text}T00:00:00Z" if len(text) == 10 else text
    try:
        instant(whole, "a day or time")
    except InvalidQueryError:
        raise argparse.ArgumentTypeError("a day is written 2027-04-01, a time 2027-04-01T09:00:00Z, in UTC") from None
    return whole


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def member(text: str) -> dict[str, str]:
    """The member of a text NAME=KEY, the key as `datasov key show` prints it."""
    name, _, key = text.rpartition("=")
    try:
        return {"name": plain(name, 128, "a name"), "key": octets(key, "a key").hex()}
    except InvalidQueryError:
        raise argparse.ArgumentTypeError(
            "a member is written NAME=KEY, the key as 64 hexadecimal digits that `datasov key show` prints"
        ) from None


def template_of(path: Path | None) -> dict[str, Any]:
    """The members of a JSON file to begin with, or none."""
    found = {} if path is None else approval.parse(read(path))
    if not isinstance(found, dict):
        raise InvalidDataError(f"{path} holds no JSON object")
    return found


def write_document(path: Path, kind: str, document: Mapping[str, Any]) -> int:
    """Write an unsigned document, checked, and say it in plain words."""
    try:
        value = (Charter if kind == CHARTER else Programme).from_document(document)
    except InvalidQueryError as why:
        raise InvalidDataError(str(why)) from None
    lines = told(kind, value.document())
    write(path, json.dumps(value.document(), indent=1, ensure_ascii=False) + "\n")
    say([*lines, f"It is in {path}, unsigned: send it to those who are to sign."])
    return 0


def shared(add: Any, noun: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parsers of sign, collect and check."""
    sign_ = add(
        "sign", f"say what a {noun} says, and sign all of it with your key",
        "The text goes to standard error, the signature to standard output or to --out: lines that can be sent by "
        "e-mail, or printed and typed.",
    )  # fmt: skip
    sign_.add_argument("document", type=Path, metavar="DOCUMENT", help=f"the {noun}, as `new` wrote it")
    sign_.add_argument("--key", type=Path, required=True, metavar="FILE", help="your key, from `datasov key new`")
    sign_.add_argument(
        "--passphrase-file", metavar="FILE",
        help="the key's passphrase is the first line of this file; - is standard input",
    )  # fmt: skip
    sign_.add_argument("--out", type=Path, metavar="FILE", help="where the signature goes (default: standard output)")
    collect_ = add(
        "collect", f"put a {noun} and signatures over it together in one file",
        "Each signature is verified; one over another document is refused, and it is said whose it is.",
    )  # fmt: skip
    check_ = add(
        "check", f"say what a {noun} says, who signed it, and who is missing", "Exit code 0 where nothing is missing.",
    )  # fmt: skip
    for parser, least in ((collect_, "+"), (check_, "*")):
        parser.add_argument("document", type=Path, metavar="DOCUMENT", help=f"the {noun}, unsigned or with signatures")
        parser.add_argument(
            "signatures", type=Path, nargs=least, metavar="SIGNATURE",
            help="what `sign` or `collect` wrote; e-mails and typed lines too",
        )  # fmt: skip
    collect_.add_argument("--out", type=Path, required=True, metavar="FILE", help="a path where nothing is yet")
    return sign_, collect_, check_
