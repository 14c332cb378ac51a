"""A resident's open vault, and what all that they do reads of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl

from datasov.authority import held
from datasov.authority.held import Record
from datasov.crypto.sign import SigningKey
from datasov.delegating import account_key
from datasov.errors import ConsentError, InvalidDataError
from datasov.model import evolution, frames
from datasov.model.consent import CityId, Consent, Coverage
from datasov.model.schema import Schema
from datasov.vault import Vault


class State:
    """The vault and the clock, shared by all that a resident does."""

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._vault, self._clock = vault, clock

    def _codes(self, schema: Schema, names: list[str]) -> pl.DataFrame:
        for name in names:
            schema.column(name)
        known = self._vault.tables().get(schema.name)
        if known is None:
            return frames.empty_codes(schema).select(names)
        if known.digest == schema.digest:
            return self._vault.scan(schema.name, names)
        if schema.digest not in {s.digest for s in self._vault.earlier(schema.name)}:
            raise InvalidDataError(f"table {schema.name!r} is kept under another schema: give the one it was put with")
        evolution.check_readable(schema, known, names)
        return evolution.taken_back(schema, self._vault.scan(schema.name, names))

    def _versions(self, covered: Iterable[Coverage]) -> dict[str, Schema]:
        """The schemas that a consent names, present or earlier ones, of the tables that the vault holds under them."""
        known = self._vault.tables()
        found = ((c, s) for c in covered if c.table in known for s in (known[c.table], *self._vault.earlier(c.table)))
        return {c.table: schema for c, schema in found if schema.digest == c.schema_digest}

    def _signing_key(self, domain: str, city: CityId, public: bytes | None = None) -> SigningKey:
        """A key of its own for each domain and controller: no two of them can be linked by it."""
        return account_key(self._vault, domain, city, public)

    def _record(self, consent: Consent) -> Record:
        for record in self._records():
            if record.consent.digest == consent.digest:
                return record
        raise ConsentError("not a consent of this vault: grant one first")

    def _records(self) -> list[Record]:
        return held.unpack(self._vault.state(held.CONSENTS))

    def _save(self, records: list[Record]) -> None:
        self._vault.set_state({held.CONSENTS: held.pack(records)})

    def _contributed(self, consent: Consent) -> int:
        return int.from_bytes(self._vault.state(held.NUMBER + consent.digest.hex()) or b"", "big")


def numbered(consent: Consent, number: int) -> dict[str, bytes | None]:
    """The note of the number of the last contribution under a consent."""
    return {held.NUMBER + consent.digest.hex(): number.to_bytes(8, "big")}
