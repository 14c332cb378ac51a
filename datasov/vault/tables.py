"""The schemas that a vault knows its tables under: the present one of each, and those that it followed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from datasov.errors import InvalidDataError
from datasov.model.document import canonical
from datasov.model.evolution import succeed
from datasov.model.schema import Schema
from datasov.vault.manifest import TableEntry


def entry_of(schema: Schema) -> TableEntry:
    """A table that nothing came before."""
    return TableEntry(schema.digest, canonical(schema.document()))


def schema_of(entry: TableEntry) -> Schema:
    return Schema.from_document(json.loads(entry.document))


def earlier_of(entry: TableEntry) -> tuple[Schema, ...]:
    """The schemas before the present one, oldest first."""
    return tuple(Schema.from_document(json.loads(text)) for _, text in entry.earlier)


def added(entry: TableEntry) -> set[str]:
    """The columns that rows put under an earlier schema lack."""
    now = {name for name, _ in schema_of(entry).stored}
    return {name for schema in earlier_of(entry) for name in now - dict(schema.stored).keys()}


def followed(known: TableEntry | None, schema: Schema, fill: Mapping[str, object]) -> TableEntry:
    """A table once a schema follows the one it has.

    Raises:
        InvalidDataError: there is no such table, or the schema cannot follow: the column, and what to do.
    """
    if known is None:
        raise InvalidDataError(f"the vault has no table {schema.name!r}: put rows into it first")
    if known.digest == schema.digest:
        return known
    if schema.digest in {digest for digest, _ in known.earlier}:
        raise InvalidDataError("the table had this very schema before, and it cannot come again: change its keys")
    added = succeed(schema_of(known), schema, fill, earlier_of(known))
    kept = dict(schema.stored)
    filled = {name: code for name, code in {**known.filled, **added}.items() if name in kept}
    return TableEntry(
        schema.digest, canonical(schema.document()), (*known.earlier, (known.digest, known.document)), filled
    )
