"""A vault out and in: its tables with the notes that count wherever the resident goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from datasov.authority import held
from datasov.crypto import age
from datasov.errors import InvalidDataError
from datasov.model.schema import Schema
from datasov.portability import load, notes
from datasov.portability.bundle import Form
from datasov.portability.save import save
from datasov.vault import Vault
from datasov.vault.compact import Progress


def export(
    vault: Vault, path: str | Path, *, form: Form, passphrase: str | None = None, recipients: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> None:  # fmt: skip
    """All of a vault as an export at a new path: a folder, or one age file where a passphrase or recipients are given.

    Args:
        progress: called with the number of tables done so far, and that of all.

    Raises:
        InvalidDataError: no such form, recipient or passphrase. StoreError: the path exists, or cannot be written.
        DecryptionError: a file of the vault is damaged. Nothing is left at the path.
    """

    def tables() -> Iterator[tuple[Schema, pl.DataFrame]]:
        known = sorted(vault.tables().items())
        for at, (name, schema) in enumerate(known):
            progress(at, len(known))
            yield schema, vault.scan(name)
        progress(len(known), len(known))

    def seal(data: bytes) -> bytes:
        return age.encrypt(data, passphrase=passphrase, recipients=recipients)

    wrapped = passphrase is not None or bool(recipients)
    if recipients:
        seal(b"")  # what is wrong with them shows before the vault is read
    save(path, tables(), notes.documents(_noted(vault)), form=form, seal=seal if wrapped else None)


def import_(
    vault: Vault, path: str | Path, *, passphrase: str | None = None, identities: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> int:  # fmt: skip
    """Put all of an export into a vault that holds no rows of its tables: all of it, or nothing. The number of rows.

    Its consents come as ones that are over: their losses count, and none can be contributed under, since the key that
    signed them stayed behind. The smaller of two limits for life stands.

    Args:
        progress: called with the number of tables read so far, and that of all.

    Raises:
        VerificationError: the export is not whole, or not as it was written. DecryptionError: a wrong age key.
        InvalidDataError: the vault holds rows of one of the tables, or knows one under another schema.
        StoreError: there is no export at the path, or the vault cannot be written.
    """

    def unseal(data: bytes) -> bytes:
        return age.decrypt(data, passphrase=passphrase, identities=identities)

    content = load.read(path, unseal, progress)
    arrived = notes.read(content.notes)
    known = vault.tables()
    for schema, _ in content.tables:
        if schema.name in known and known[schema.name].digest != schema.digest:
            raise InvalidDataError(f"the vault knows table {schema.name!r} under another schema: import into a new one")
        if schema.name in known and vault.scan(schema.name).height:
            raise InvalidDataError(f"the vault holds rows of table {schema.name!r} already: import into a new vault")
    vault.put(content.tables, state=_kept(vault, arrived))
    return sum(codes.height for _, codes in content.tables)


def _noted(vault: Vault) -> notes.Notes:
    return notes.Notes(
        tuple(held.unpack(vault.state(held.CONSENTS))),
        held.unpack_limit(vault.state(held.LIFETIME)),
        {name: note for name, note in vault.states().items() if name.startswith(held.LOG)},
        tuple(held.unpack_delegations(vault.state(held.DELEGATIONS))),
        tuple(held.unpack(vault.state(held.SIGNED))),
        {name: note for name, note in vault.states().items() if name.startswith(held.OPERATORS)},
    )


def _kept(vault: Vault, arrived: notes.Notes) -> dict[str, bytes | None]:
    """The notes of the vault once those that arrive are among them."""
    mine = _noted(vault)
    records = notes.gathered(mine.records, arrived.records)
    delegations = notes.gathered(mine.delegations, arrived.delegations)
    signed = notes.gathered(mine.signed, arrived.signed)
    values: dict[str, bytes | None] = {
        name: note for name, note in (arrived.checkpoints or {}).items() if vault.state(name) is None
    }
    limit = notes.smaller(mine.lifetime, arrived.lifetime)
    if limit is not None:
        values[held.LIFETIME] = held.pack_limit(limit)
    if records:
        values[held.CONSENTS] = held.pack(records)
    if delegations:
        values[held.DELEGATIONS] = held.pack_delegations(delegations)
    if signed:
        values[held.SIGNED] = held.pack(signed)
    return values


def merge(vault: Vault, other: Vault) -> bool:
    """Take in what only another device's vault of the same resident holds: :meth:`Vault.merge`, and the notes.

    Raises:
        VerificationError: the other vault holds a checkpoint that no city of its consents signed.
    """
    notes.check_signed(_noted(other))
    return vault.merge(other, notes.combined)
