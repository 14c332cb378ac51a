"""What a resident sends and a city admits: a consent with the covered columns, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from datasov.authority import delegation, messages
from datasov.authority.coverage import check_special, check_unsent
from datasov.authority.signers import ED25519_ONLY, Directory
from datasov.crypto.seal import OpeningKey
from datasov.errors import ConsentError, DatasovError, InternalError, InvalidDataError, VerificationError
from datasov.model.consent import CityId, Consent, Coverage, contains
from datasov.model.delegation import Delegated
from datasov.model.document import canonical
from datasov.model.frames import check_codes
from datasov.model.schema import Schema
from datasov.wire import cbor, columns, fields

MAX_SCHEMA = 4 * 1024 * 1024
_REMEMBERED, _KNOWN = 64 * 1024, 256
"""Schemas of up to so many bytes are remembered, and so many of them: residents of one table send the same."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A consent and a contribution that passed every check that needs no registry.

    Attributes:
        rows: codes of the covered columns of the base table, derived ones as the vault computed them.
        profiles: table name to codes of the covered columns, at most one row.
        schemas: the base table's schema, then those of the joined tables. Tables that derived columns read send none.
        erasure: the hash that enters the log once these rows are erased, 32 bytes, or empty where none was sent.
        chain: the delegations under which the consent was signed, the person's own first; none where they signed it.
    """

    consent: Consent
    sequence: int
    commitment: bytes
    rows: pl.DataFrame
    profiles: dict[str, pl.DataFrame]
    schemas: tuple[Schema, ...]
    erasure: bytes = b""
    chain: tuple[Delegated, ...] = ()


def pack_table(schema: Schema, codes: pl.DataFrame) -> bytes:
    """A table as it travels: [the schema's canonical text, its packed codes]."""
    return cbor.encode([canonical(schema.document()), columns.pack(codes)])


def _schema(raw: bytes) -> Schema | None:
    """The schema whose canonical text this is; None where it is another text of one."""
    try:
        schema = Schema.from_document(json.loads(raw))
        text = canonical(schema.document())
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, InternalError):
        raise VerificationError("a contribution's schema cannot be read: contribute again") from None
    return schema if text == raw else None


_remembered = lru_cache(maxsize=_KNOWN)(_schema)


def _unpack_table(data: bytes, coverage: Coverage) -> tuple[Schema, pl.DataFrame]:
    text, packed = fields.items(cbor.decode(data), 2, 2)
    raw = fields.blob(text, MAX_SCHEMA)
    schema = _remembered(raw) if len(raw) <= _REMEMBERED else _schema(raw)
    if schema is None or schema.name != coverage.table or schema.digest != coverage.schema_digest:
        raise ConsentError("a contributed table is not the one that the consent names: contribute again")
    codes = columns.unpack(fields.blob(packed, messages.MAX_MESSAGE))
    if tuple(codes.columns) != coverage.columns:
        raise ConsentError("the contributed columns are not the covered ones: contribute again")
    check_codes(schema, codes)
    if schema.kind == "attributes" and codes.height > 1:
        raise InvalidDataError("an attribute table holds one row a resident: contribute again")
    return schema, codes


def check_consent(
    consent: Consent, city: CityId, purposes: Collection[str], trusts: Collection[str], now: int, place: str
) -> None:
    """Raise ConsentError unless the consent is for this city, a declared purpose and trust model, and not expired.

    Args:
        place: where the city processes, an ISO 3166 code: the consent's place must contain it.
    """
    claims = consent.claims
    if claims.audience != str(city):
        raise ConsentError("the consent is for another city: grant one to city.id")
    if claims.purpose not in purposes:
        raise ConsentError("the consent is for a purpose that this city does not declare: see city.purposes")
    if claims.trust.text not in trusts:
        raise ConsentError("the consent asks for another trust model than this city runs: grant one for city.trust")
    if not contains(claims.place, place):
        raise ConsentError(
            "the consent does not allow processing where this city processes: see city.processing, and grant one for it"
        )
    if claims.expires <= now:
        raise ConsentError("the consent has expired: grant a new one")


def admit(
    signed: bytes | Consent, sealed: bytes, *, city: CityId, key: OpeningKey, purposes: Collection[str],
    trusts: Collection[str], now: int, place: str, directory: Directory = ED25519_ONLY,
) -> Admission:  # fmt: skip
    """Verify a consent with the delegations that it needs, and the contribution sealed under it.

    Raises:
        ConsentError: for another city, purpose, trust or place; expired; rows or columns that the consent does not
            cover; columns of the special class that it does not name; beyond its delegations, or without them.
        VerificationError: (or its subclasses) bytes that do not verify, decrypt or parse.
        InvalidDataError: a value outside its schema's bounds.
    """
    consent = delegation.unbundle(signed, directory)
    check_consent(consent, city, purposes, trusts, now, place)
    chain = delegation.verified(consent, now)
    sent = messages.open_contribution(sealed, key, city, consent, directory)
    base, *others = consent.claims.coverage
    joined, read = others[: len(sent.profiles)], others[len(sent.profiles) :]
    if [name for name, _ in sent.profiles] != [c.table for c in joined]:
        raise ConsentError("the contributed tables are not the covered ones: contribute again")
    try:
        schema, rows = _unpack_table(sent.rows, base)
        profiles, schemas = {}, [schema]
        for coverage, (name, data) in zip(joined, sent.profiles, strict=True):
            profile, codes = _unpack_table(data, coverage)
            if profile.kind != "attributes":
                raise ConsentError("only attribute tables are joined: contribute again")
            profiles[name] = codes
            schemas.append(profile)
        carried = list(zip(schemas, (base, *joined), strict=True))
        check_unsent(carried, read)
        check_special(carried, consent.claims.special)
        if chain:
            delegation.check_tables(chain[-1].claims, carried)
    except DatasovError:
        raise
    except (ValueError, TypeError, OverflowError, pl.exceptions.PolarsError):
        raise VerificationError("the contribution cannot be read: contribute again") from None
    return Admission(consent, sent.sequence, sent.commitment, rows, profiles, tuple(schemas), sent.erasure, chain)
