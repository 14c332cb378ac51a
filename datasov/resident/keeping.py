"""A resident's data: put, read, exported, merged, erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import polars as pl

from datasov import portability
from datasov.model import frames
from datasov.model.schema import Schema
from datasov.portability import Form
from datasov.resident.state import State
from datasov.vault import Anchor, Vault
from datasov.vault.keychain import Keys, NewSecrets
from datasov.vault.opening import New, Ways


class Keeping(State):
    """The part of :class:`datasov.Resident` that is about their data."""

    def put(self, schema: Schema, data: frames.Rows) -> int:
        """Validate rows and keep them, durably: all, or none. Returns how many.

        In an attribute table the one row put replaces the one before.

        Raises:
            InvalidDataError: by row and column, what does not fit the schema.
        """
        return self.put_all([(schema, data)])

    def put_all(self, tables: Iterable[tuple[Schema, frames.Rows]]) -> int:
        """Like :meth:`put`, for several tables at once: all of them, or none."""
        encoded = [(schema, frames.encode(schema, data)) for schema, data in tables]
        self._vault.put(encoded)
        return sum(codes.height for _, codes in encoded)

    def scan(self, schema: Schema, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """The rows of a table, as a Polars frame; no rows where none were put.

        Derived columns are computed where `columns` names them, and left out where it is None.
        """
        names = list(columns) if columns is not None else [n for n, _ in schema.stored]
        return frames.decode(schema, self._codes(schema, names))

    def tables(self) -> dict[str, Schema]:
        """The tables that the vault knows, by name, each under its newest schema."""
        return self._vault.tables()

    def evolve(self, schema: Schema, fill: Mapping[str, object] | None = None) -> None:
        """Let a schema follow the one that a table has. No row is written anew: docs/vault.md.

        Bounds may grow, a Category may grow at its end, nulls may become allowed, columns may be added, and those left
        out are retired: their values can no longer be read, and leave the disk once their segment is written anew.

        Args:
            fill: what rows put before hold in added columns, by name; null where nothing is given.

        Raises:
            InvalidDataError: the vault has no such table, or the schema cannot follow: the column, and what to do.
        """
        self._vault.evolve(schema, fill or {})

    def export(
        self,
        path: str | Path,
        *,
        form: Form = "parquet",
        passphrase: str | None = None,
        recipients: Sequence[str] = (),
    ) -> None:
        """Write all that the vault holds in open formats, in the clear, or wrapped with age: docs/vault.md.

        Args:
            path: a new folder, or a new file where it is wrapped.
            form: "parquet", "csv" or "json" (lines).
            passphrase, recipients: one of them wraps the export with age (extra `portability`).

        Raises:
            InvalidDataError: no such form, recipient or passphrase. StoreError: the path exists, or the disk refuses.
        """
        portability.export(self._vault, path, form=form, passphrase=passphrase, recipients=recipients)

    def import_(self, path: str | Path, *, passphrase: str | None = None, identities: Sequence[str] = ()) -> int:
        """Put all of an export into this vault, which must hold no rows of its tables: all, or none. The rows put.

        Raises:
            VerificationError: the export is not whole, or not as it was written.
            InvalidDataError: the vault holds rows of one of its tables, or knows one under another schema.
        """
        return portability.import_(self._vault, path, passphrase=passphrase, identities=identities)

    def enrol(self, path: str | Path, **new: Unpack[New]) -> None:
        """Make this vault once more, for another device of yours, which opens it by what is given here.

        Each of the two has ways of opening, keys and anchors of its own, and erases on its own: docs/vault.md.

        Raises:
            InvalidDataError: nothing that opens it, or of the wrong shape.
            StoreError: the path exists, or the disk refuses, or `device` keeps the key of this vault.
        """
        self._vault.enrol(path, **new)

    def merge(self, path: str | Path, **ways: Unpack[Ways]) -> bool:
        """Take in what only another device's vault holds, rows and consents; whether there was anything.

        The other vault is opened by what is given here, read, and stays as it is: merge there too, and both hold the
        same. Rows stand by the device that put them, each device's in the order of its puts; of an attribute table the
        row put last stands, by the devices' clocks. Every consent of both counts, and the smaller limit for life holds.
        Ways of opening and anchors are not taken over, and rows of a domain that was erased here are refused.

        An `anchor` is of the other vault, so that an older copy of it is noticed.

        Raises:
            StoreError: no vault there, one that is being written to, or rows that cannot be brought together.
            InvalidDataError: a vault of somebody else, a copy of this device's, or schemas of which none follows.
            DecryptionError: a wrong key, or damaged files. ProofError: a log showed each device another tree.
        """
        with Vault.open(path, **ways) as other:
            return portability.merge(self._vault, other)

    @property
    def keys(self) -> Keys:
        """The ways of opening the vault: to list, add, remove and replace them."""
        return self._vault.keys

    def anchor(self, name: str) -> Anchor:
        """Where the vault stands now, to be left with somebody else: :meth:`datasov.vault.Vault.anchor`."""
        return self._vault.anchor(name)

    def erase_domain(self, domain: str, **new: Unpack[NewSecrets]) -> None:
        """Erase every table of a domain, for good, and replace every key: :meth:`datasov.vault.Vault.erase_domain`.

        Consents stay: they are your account of what was agreed to, and what revoking them needs.
        """
        self._vault.erase_domain(domain, **new)

    def erase(self) -> None:
        """Erase the whole vault, consents included: :meth:`datasov.vault.Vault.erase`. Revoke what is to end first."""
        self._vault.erase()

    def compact(self) -> None:
        """Gather the vault's small appends into segments."""
        self._vault.compact()
