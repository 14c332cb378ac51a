"""`datasov vault`: a resident's vault from the command line."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasov import catalogue, portability
from datasov.commands import secret, show, vault_keys
from datasov.commands.vault_options import add_commands
from datasov.crypto import age
from datasov.errors import InvalidDataError, StoreError
from datasov.model.columns import Boolean
from datasov.model.consent import CityId
from datasov.resident import Resident
from datasov.vault import Vault, erase


def add(commands: Any) -> None:
    """Add `vault` with its commands to those of `datasov`."""
    add_commands(commands, {
        "create": _create, "put": _put, "show": _show, "export": _export, "import": _import, "evolve": _evolve,
        "enrol": _enrol, "merge": _merge, "check": _check, "compact": _compact, "erase": _erase,
        "enrolment-key": _enrolment_key,
        "keys list": vault_keys.listed,
        "keys add": lambda options: vault_keys.added(options, _open),
        "keys remove": lambda options: vault_keys.removed(options, _open),
        "keys replace": lambda options: vault_keys.replaced(options, _open),
        "erase-domain": lambda options: vault_keys.erased(options, _open),
    })  # fmt: skip


def _open(options: argparse.Namespace) -> Resident:
    """The vault, for writing; whether it is there is said before anybody types a passphrase."""
    return Resident.open(options.vault, **_opening(options))


def _opening(options: argparse.Namespace) -> secret.Opening:
    if not (options.vault / "VAULT").is_file():
        raise StoreError(f"no vault is at {options.vault}: check the path, or make one with `datasov vault create`")
    return secret.opening(options, f"Passphrase of {options.vault}")


def _say(text: str) -> None:
    print(text, flush=True)


def _create(options: argparse.Namespace) -> int:
    if options.vault.exists():
        raise StoreError(f"{options.vault} exists already: choose another path")
    with secret.taken_back(options.vault) as made:
        given = secret.opening(options, f"New passphrase for {options.vault}", new=True, made=made)
        Resident.create(options.vault, **given).close()
    _say(f"{options.vault} is made. Nobody can open it without what you gave: keep that well.")
    return 0


def _put(options: argparse.Namespace) -> int:
    schema = None if options.schema is None else show.schema(options.schema)
    if schema is not None and schema.name != options.table:
        raise InvalidDataError(f"the schema is of table {schema.name!r}, not of {options.table!r}")
    with _open(options) as resident:
        schema = schema or resident.tables().get(options.table)
        if schema is None and options.table in catalogue.names():
            schema = catalogue.schema(options.table)
        if schema is None:
            raise InvalidDataError(f"the vault has no table {options.table!r} yet: give its schema with --schema FILE")
        count = resident.put(schema, options.file)
    _say(f"{count} rows are in table {options.table}.")
    return 0


def _show(options: argparse.Namespace) -> int:
    given = _opening(options)
    with Vault.open(options.vault, **given, write=False) as vault:
        if options.table is not None:
            return _show_table(vault, options)
        tables, held = show.counted(vault), show.notes(Resident(vault, lambda: 0.0))
    if options.json:
        _say(json.dumps({"tables": tables, **held}, ensure_ascii=False))
        return 0
    if tables:
        _say(show.table(["table", "domain", "kind", "rows"], [list(t.values()) for t in tables]))
    else:
        _say("No table yet: put rows with `datasov vault put`.")
    limit = "no limit for life" if held["lifetime"] is None else f"at most {held['lifetime']} for life"
    _say(f"Consents in force: {held['consents']}; granted in all: {held['granted']}, {limit}.")
    return 0


def _show_table(vault: Vault, options: argparse.Namespace) -> int:
    schema = vault.tables().get(options.table)
    if schema is None:
        raise InvalidDataError(f"the vault has no table {options.table!r}: see `datasov vault show`")
    codes = vault.scan(schema.name)
    names = [name for name, _ in schema.stored]
    found = show.rows(schema, codes.head(options.rows), names)
    if options.json:
        held = {"schema": schema.document(), "digest": schema.digest.hex(), "count": codes.height, "rows": found}
        _say(json.dumps(held, ensure_ascii=False))
        return 0
    _say(show.table(names, [[row[name] for name in names] for row in found]))
    if codes.height > len(found):
        _say(f"{len(found)} of {codes.height} rows; more with --rows N.")
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.target.exists():
        raise StoreError(f"{options.target} exists already: choose another path")
    if options.age_recipient or options.age_passphrase or options.age_passphrase_file is not None:
        age.require()
    given = _opening(options)
    with Vault.open(options.vault, **given) as vault:
        passphrase = None
        if options.age_passphrase_file is not None:
            passphrase = secret.line(options.age_passphrase_file)
        elif options.age_passphrase:
            passphrase = secret.ask("New age passphrase for the export", twice=True)
        portability.export(
            vault, options.target, form=options.form, passphrase=passphrase, recipients=options.age_recipient,
            progress=_progress("exported", "tables"),
        )  # fmt: skip
    clear = passphrase is None and not options.age_recipient
    _say(f"{options.target} is written" + (", in the clear: whoever has it reads it." if clear else "."))
    return 0


def _import(options: argparse.Namespace) -> int:
    if options.source.is_file():
        age.require()
    given = _opening(options)
    with Vault.open(options.vault, **given) as vault:
        passphrase: str | None = None
        identities: tuple[str, ...] = ()
        if options.age_identity is not None:
            identities = _identities(options.age_identity)
        elif options.age_passphrase_file is not None:
            passphrase = secret.line(options.age_passphrase_file)
        elif options.source.is_file():
            passphrase = secret.ask(f"Age passphrase of {options.source}")
        count = portability.import_(
            vault, options.source, passphrase=passphrase, identities=identities, progress=_progress("read", "tables")
        )
    _say(f"{count} rows were imported.")
    return 0


def _identities(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise StoreError("the file with the age identity cannot be read: check its path") from None
    return tuple(line for line in lines if line and not line.startswith("#"))


def _evolve(options: argparse.Namespace) -> int:
    schema = show.schema(options.schema)
    fill: dict[str, object] = {}
    for item in options.fill:
        name, equals, value = item.partition("=")
        if not equals:
            raise InvalidDataError("--fill is COLUMN=VALUE")
        truth = isinstance(dict(schema.stored).get(name), Boolean) and value in ("true", "false")
        fill[name] = value == "true" if truth else value
    with _open(options) as resident:
        resident.evolve(schema, fill)
    _say(f"Table {schema.name} has its new schema; no row was written anew.")
    return 0


def _enrol(options: argparse.Namespace) -> int:
    with _open(options) as resident, secret.taken_back(options.target) as made:
        given = secret.opening(options, f"New passphrase for {options.target}", prefix="new-", new=True, made=made)
        resident.enrol(options.target, **given)
    _say(f"{options.target} is the vault of your other device: move it there. `datasov vault merge` unites the two.")
    return 0


def _enrolment_key(options: argparse.Namespace) -> int:
    city = CityId.parse(options.city)
    with _open(options) as resident:
        _say(base64.urlsafe_b64encode(resident.enrolment_key(city)).rstrip(b"=").decode())
    return 0


def _merge(options: argparse.Namespace) -> int:
    with _open(options) as resident:
        given = secret.opening(options, f"Passphrase of {options.other}", prefix="other-")
        changed = resident.merge(options.other, **given)
    _say("What only the other device held is here now." if changed else "The other device held nothing more.")
    return 0


def _check(options: argparse.Namespace) -> int:
    given = _opening(options)
    with Vault.open(options.vault, **given) as vault:
        found = vault.check(_progress("checked", "files"))
    bad = [c for c in found if c.fault is not None]
    size = sum(c.size for c in found)
    if options.json:
        listed = [{"file": c.name, "bytes": c.size, "rows": c.rows, "fault": c.fault} for c in found]
        _say(json.dumps({"whole": not bad, "bytes": size, "files": listed}))
    elif bad:
        for item in bad:
            _say(f"{item.name}: {item.fault}.")
        _say(f"{len(bad)} of {len(found)} files are not as they were written: restore them from a copy of this vault.")
    else:
        _say(f"{len(found)} files, {size:,} bytes: every byte is as it was written.")
    return 1 if bad else 0


def _progress(word: str, what: str) -> Callable[[int, int], None]:
    """A line on standard error that counts, where that is a terminal."""
    if not sys.stderr.isatty():
        return lambda *_: None

    def show_progress(done: int, total: int) -> None:
        end = "\r\x1b[K" if done == total else ""
        print(f"\r{word} {done} of {total} {what}{end}", end="", file=sys.stderr, flush=True)

    return show_progress


def _compact(options: argparse.Namespace) -> int:
    given = _opening(options)
    with Vault.open(options.vault, **given) as vault:
        vault.compact(_progress("compacted", "tables"))
    _say("The vault is compact.")
    return 0


def _erase(options: argparse.Namespace) -> int:
    if not options.vault.is_dir():
        raise StoreError(f"no vault is at {options.vault}: check the path")
    name = options.vault.resolve().name
    if not options.yes:
        vault_keys.confirmed("This destroys the vault and all rows in it.", name)
    erase.unopened(options.vault)
    _say(f"{options.vault} is erased. Copies elsewhere, and exports, are not.")
    return 0
