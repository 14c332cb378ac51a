"""What a resident holds beside their rows, as documents: consents, the account of losses, checkpoints of logs.

The signing identity is not among them: consents of an export can be read and counted elsewhere, and used only in the
vault that signed them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from datasov.authority import token
from datasov.authority.held import Record, granted
from datasov.errors import DatasovError, VerificationError
from datasov.model.privacy import MAX_DELTA, MAX_NANO, Loss

ACCOUNT, CONSENTS, CHECKPOINTS = "account.json", "consents.json", "checkpoints.json"


@dataclass(frozen=True, slots=True)
class Notes:
    """Consents with their salts, the limit for life, and the checkpoints last seen, by the names of their notes."""

    records: tuple[Record, ...] = ()
    lifetime: Loss | None = None
    checkpoints: Mapping[str, bytes] | None = None


def documents(notes: Notes) -> dict[str, object]:
    """A document for each kind of note."""
    return {
        ACCOUNT: {
            "lifetime": None if notes.lifetime is None else _loss(notes.lifetime),
            "granted": _loss(granted(notes.records)),
        },
        CONSENTS: [_consent(record) for record in notes.records],
        CHECKPOINTS: {name: note.decode() for name, note in (notes.checkpoints or {}).items()},
    }


def read(found: Mapping[str, Any]) -> Notes:
    """The notes of an export; what is granted in them counts, and none of its consents can be used here.

    Raises:
        VerificationError: a document is none that :func:`documents` gives.
    """
    try:
        records = tuple(_record(item) for item in found[CONSENTS])
        limit = found[ACCOUNT]["lifetime"]
        lifetime = None if limit is None else _read_loss(limit)
        checkpoints = {name: note.encode() for name, note in found[CHECKPOINTS].items()}
    except (DatasovError, KeyError, TypeError, ValueError, AttributeError):
        raise VerificationError("the notes of the export cannot be read: export again, or upgrade datasov") from None
    notes = Notes(records, lifetime, checkpoints)
    if documents(notes) != found or not all(name.startswith("log/") for name in checkpoints):
        raise VerificationError("the notes of the export do not agree with each other: export again")
    return notes


def spent(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records as a vault keeps those of another one: they count, and cannot be contributed under."""
    return tuple(replace(record, revoked=True) for record in records)


def _loss(loss: Loss) -> dict[str, object]:
    return {"measure": loss.measure, "nano": loss.nano, "delta": str(loss.delta)}


def _read_loss(doc: Mapping[str, Any]) -> Loss:
    nano, delta = doc["nano"], int(doc["delta"])
    if type(nano) is not int or not 0 <= nano <= MAX_NANO or not 0 <= delta <= MAX_DELTA:
        raise ValueError
    return Loss(nano, delta=delta)


def _consent(record: Record) -> dict[str, object]:
    """A consent in words, and what it is made of."""
    claims = record.consent.claims
    return {
        "city": claims.audience, "purpose": claims.purpose, "domain": record.domain, "revoked": record.revoked,
        "issued": _time(claims.issued), "expires": _time(claims.expires), "loss": _loss(claims.loss),
        "tables": [
            {"name": c.table, "schema": c.schema_digest.hex(), "columns": list(c.columns)} for c in claims.coverage
        ],
        "token": record.consent.token.hex(), "salt": record.salt.hex(),
    }  # fmt: skip


def _record(doc: Mapping[str, Any]) -> Record:
    if type(doc["revoked"]) is not bool or type(doc["domain"]) is not str:
        raise ValueError
    return Record(token.read(bytes.fromhex(doc["token"])), bytes.fromhex(doc["salt"]), doc["domain"], doc["revoked"])


def _time(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
