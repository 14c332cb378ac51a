"""Small vaults for the tests of the vault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from datasov.crypto import kdf
from datasov.model.columns import Boolean, Category, Decimal, Integer
from datasov.model.frames import code_dtype
from datasov.model.schema import Schema
from datasov.vault import Vault, codec
from datasov.vault import vault as vault_module

KEY = bytes(range(32))
TRIPS = Schema("trips", domain="mobility", columns={"district": Category("NESW"), "km": Integer(0, 50, nullable=True)})
METER = Schema("meter", domain="energy", columns={"wh": Decimal(0, 10**6, scale=3), "fault": Boolean()})
PERSON = Schema("person", domain="administration", kind="attributes", columns={"age": Integer(0, 120)})
TABLES = (TRIPS, METER, PERSON)


def trips(*km: int | None) -> pl.DataFrame:
    """One trip a distance."""
    return _frame(TRIPS, {"district": [(k or 0) % 4 for k in km], "km": list(km)})


def meter(*wh: int) -> pl.DataFrame:
    return _frame(METER, {"wh": list(wh), "fault": [w % 2 for w in wh]})


def person(age: int) -> pl.DataFrame:
    return _frame(PERSON, {"age": [age]})


def _frame(schema: Schema, values: dict[str, list[int | None]] | dict[str, list[int]]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, values[name], dtype=code_dtype(column)) for name, column in schema.items])


def contents(path: Path, key: bytes = KEY) -> dict[str, object]:
    """Everything that a vault holds, read by a reader that sees the disk alone."""
    with Vault.open(path, device_key=key, write=False) as vault:
        return held(vault)


def held(vault: Vault) -> dict[str, object]:
    found: dict[str, object] = {name: vault.scan(name).rows() for name in vault.tables()}
    return found | {"note": vault.state("note"), "derived": vault.derive(b"test")}


def varied(path: Path) -> dict[str, object]:
    """A vault with every kind of file: header, manifests, small and Parquet segments, a log of two domains."""
    with Vault.create(path, device_key=KEY) as vault:
        with parquet_always(), large_from(2):
            vault.put([(TRIPS, trips(1, 2, 3)), (METER, meter(10))])
        vault.put([(METER, meter(11)), (PERSON, person(30))])
        vault.compact()
        vault.put([(TRIPS, trips(4, None))])
        vault.put([(METER, meter(12, 13)), (TRIPS, trips(5))])
        vault.set_state({"note": b"kept"})
        return held(vault)


@contextmanager
def parquet_always() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "SMALL_ROWS", 0)
        yield


@contextmanager
def large_from(rows: int) -> Iterator[None]:
    """Puts of more rows than this go straight into segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault_module, "LARGE_ROWS", rows)
        yield


@contextmanager
def cheap_argon2() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdf, "ARGON2_DEFAULT", (1, 8 * 1024 * 1024))
        yield


def sealed_files(path: Path) -> list[Path]:
    """Every file of a vault that holds anything."""
    return sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)
