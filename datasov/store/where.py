"""Where a city's PostgreSQL store is: the parameters of a connection, and a schema.

What is remembered of it, in the city's folder, is never a password: that comes from PGPASSWORD, from a password file
(~/.pgpass) or from the argument, each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from datasov.errors import MissingExtraError, StoreError

SCHEMES = ("postgresql://", "postgres://")
_SECRET = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
_LONGEST = 63


@dataclass(frozen=True, slots=True)
class Where:
    """A schema of a database.

    Attributes:
        connection: parameters of libpq by name, none of them secret.
        schema: which of the database's schemas; no other city may use it.
        secret: parameters that are never written down.
    """

    connection: Mapping[str, str]
    schema: str
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Host, database and schema, for people."""
        place = ", ".join(self.connection[n] for n in ("host", "hostaddr", "service") if n in self.connection)
        return f"schema {self.schema} of {self.connection.get('dbname', 'the default database')} at {place or 'PGHOST'}"


def parse(url: str, schema: str = "") -> Where:
    """Read `postgresql://USER@HOST:PORT/DATABASE?schema=NAME`, where other parameters are libpq's.

    Args:
        schema: the one that is meant where the URL names none.

    Raises:
        StoreError: it is no such URL. MissingExtraError: psycopg is not installed.
    """
    if not isinstance(url, str) or not url.startswith(SCHEMES):
        raise StoreError("a store is named like postgresql://USER@HOST/DATABASE?schema=NAME: see docs/operating.md")
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise missing() from None
    base, _, query = url.partition("?")
    named = parse_qsl(query, keep_blank_values=True)
    schemas = [value for name, value in named if name == "schema"] or [schema]
    rest = urlencode([pair for pair in named if pair[0] != "schema"], quote_via=quote)
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(f"{base}?{rest}").items() if value is not None}
    except ProgrammingError:
        raise StoreError(
            "the store's URL cannot be read: write postgresql://USER@HOST/DATABASE?schema=NAME, with %40 for an @ in "
            "a name, and parameters that libpq has"
        ) from None
    if len(schemas) > 1 or not _named(schemas[0]):
        raise StoreError(
            f"a store needs a schema, a printable text of at most {_LONGEST} bytes without a %: add ?schema=NAME to "
            "its URL, once"
        )
    return Where(
        {n: v for n, v in found.items() if n not in _SECRET}, schemas[0],
        {n: v for n, v in found.items() if n in _SECRET},
    )  # fmt: skip


def write(where: Where, identity: bytes) -> bytes:
    """What the city's folder remembers: the place without its secrets, and the store's identity (16 bytes)."""
    found = {"connection": dict(where.connection), "schema": where.schema, "store": identity.hex()}
    return json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"


def read(file: Path) -> tuple[Where, bytes]:
    """What :func:`write` wrote; StoreError where it is something else."""
    try:
        found = json.loads(file.read_bytes())
        where = Where({str(n): str(v) for n, v in found["connection"].items()}, str(found["schema"]))
        return where, bytes.fromhex(found["store"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{file.name} does not say where the city's database is: bring it back, or restore the city from a backup"
        ) from None


def missing() -> MissingExtraError:
    """The error where psycopg is not installed."""
    return MissingExtraError("a store on PostgreSQL needs its extra: pip install 'datasov[postgres]'")


def called_after(city: Path) -> str:
    """The name of a schema after that of a city's folder; empty where that gives none."""
    plain = re.sub(r"[^a-z0-9_]", "_", city.stem.lower())[:_LONGEST]
    return plain if re.search("[a-z]", plain) else ""


def _named(schema: str) -> bool:
    return 0 < len(schema.encode()) <= _LONGEST and schema.isprintable() and "%" not in schema and schema[:3] != "pg_"
