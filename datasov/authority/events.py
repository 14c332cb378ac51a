"""What stands in a partition's stream: admissions in a fixed form, that many are read at once; the rest as CBOR.

    admission = "A" || place, terms, status (4 bytes each)
                    || issued, begins, ends, nano, delta, sequence, admitted (8 bytes each)
                    || account || digest of the consent || hash for the rows' erasure (32 bytes each)
                    || the consent token

All numbers are little-endian. The others are lists: ["terms", columns, tables, trust, measure], numbered 0, 1, 2 ... as
they come; ["revoke", place, time]; ["fold", shard, generation, fingerprint, [first, last], places]; ["lapse", places],
whose contributions go unfolded, since their consents expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasov.authority.columns import Array
from datasov.model.consent import Claims, Consent
from datasov.wire import cbor

ADMIT = b"A"
HEAD = np.dtype(
    [
        ("kind", "S1"), ("place", "<u4"), ("terms", "<u4"), ("status", "<u4"),
        ("issued", "<i8"), ("begins", "<i8"), ("ends", "<i8"), ("nano", "<i8"), ("delta", "<i8"), ("sequence", "<i8"),
        ("admitted", "<i8"), ("account", "u1", 32), ("digest", "u1", 32), ("erasure", "u1", 32),
    ]
)  # fmt: skip
_ERASURE = HEAD.itemsize - 32


@dataclass(frozen=True, slots=True)
class Terms:
    """What many consents share, as a question asks for it: `columns` are `column` or `table.column`."""

    columns: frozenset[str]
    tables: frozenset[tuple[str, bytes]]
    trust: str
    measure: str

    def event(self) -> bytes:
        """As it stands in the stream; equal terms have equal bytes."""
        return cbor.encode(
            ["terms", sorted(self.columns), [list(t) for t in sorted(self.tables)], self.trust, self.measure]
        )

    def names(self) -> frozenset[str]:
        """All that a question may ask for, each under a name of its own."""
        return self.columns | asked((), dict(self.tables), self.trust, self.measure)


def asked(columns: Sequence[str], tables: dict[str, bytes], trust: str, measure: str) -> frozenset[str]:
    """The names of all that a question asks for."""
    return frozenset(columns) | {f"{t}:{d.hex()}" for t, d in tables.items()} | {"trust:" + trust, "measure:" + measure}


def covered_columns(claims: Claims) -> frozenset[str]:
    """Names of the covered columns, those of joined tables as `table.column`."""
    base, *joined = claims.coverage
    return frozenset(base.columns) | {f"{c.table}.{name}" for c in joined for name in c.columns}


def covered_tables(claims: Claims) -> dict[str, bytes]:
    """Name and schema digest of each covered table."""
    return {c.table: c.schema_digest for c in claims.coverage}


def terms_of(claims: Claims) -> Terms:
    """What a consent shares with others."""
    tables = frozenset(covered_tables(claims).items())
    return Terms(covered_columns(claims), tables, claims.trust.text, claims.loss.measure)


def admission(consent: Consent, place: int, terms: int, sequence: int, admitted: int, erasure: bytes) -> bytes:
    """The event that admits a contribution under a consent; `erasure` is 32 bytes."""
    claims = consent.claims
    head = np.zeros(1, dtype=HEAD)
    head[0] = (
        ADMIT, place, terms, claims.status, claims.issued, claims.not_before, claims.expires, claims.loss.nano,
        claims.loss.delta, sequence, admitted, list(claims.account), list(consent.digest), list(erasure),
    )  # fmt: skip
    return head.tobytes() + consent.token


def admissions(events: Sequence[bytes]) -> Array:
    """The heads of many admissions, as one structured array."""
    return np.frombuffer(b"".join(e[: HEAD.itemsize] for e in events), dtype=HEAD)


def token_of(event: bytes) -> bytes:
    """The consent token of an admission."""
    return event[HEAD.itemsize :]


def erasure_of(event: bytes) -> bytes:
    """The hash that an admission's resident sent to be logged once its rows are erased; 32 bytes."""
    return event[_ERASURE : HEAD.itemsize]
