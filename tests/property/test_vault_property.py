"""Whatever is put comes back: over schemas and frames, and over histories of puts, compactions and reopenings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from datasov.model.columns import MAX_CODE, Boolean, Category, Column, Decimal, Integer, Timestamp
from datasov.model.frames import code_dtype
from datasov.model.schema import DOMAINS, Schema
from datasov.vault import Vault, codec, session
from datasov.vault import vault as vault_module
from tests import vaults
from tests.strategies import declared, without_my_numbers
from tests.vaults import KEY, METER, PERSON, TRIPS, meter, person, trips

bounds = st.tuples(st.integers(-MAX_CODE, MAX_CODE), st.integers(-MAX_CODE, MAX_CODE)).map(sorted)
times = st.datetimes(min_value=Timestamp("1970-01-01", "2200-01-01", zone="UTC").low.replace(tzinfo=None)).filter(
    lambda t: t.year < 2200
)
columns: st.SearchStrategy[Column] = st.one_of(
    st.builds(
        lambda values, null: Category(values, nullable=null),
        st.lists(st.text(max_size=5), min_size=1, max_size=300, unique=True),
        st.booleans(),
    ),
    declared(lambda b, null: Integer(b[0], b[1], unit="u", nullable=null), bounds, st.booleans()),
    declared(
        lambda b, null: Decimal(b[0] // 10**4, b[1] // 10**4, scale=3, unit="u", nullable=null), bounds, st.booleans()
    ),
    st.builds(
        lambda pair, null: Timestamp(min(pair), max(pair), zone="UTC", nullable=null),
        st.tuples(times, times),
        st.booleans(),
    ),
    st.builds(lambda null: Boolean(nullable=null), st.booleans()),
)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}|[あ-ん]{1,5}", fullmatch=True).filter(str.isidentifier)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    return Schema(
        draw(names),
        domain=draw(st.sampled_from(DOMAINS)),
        columns=draw(st.dictionaries(names, columns, min_size=1, max_size=6)),
        kind=draw(st.sampled_from(["events", "attributes"])),
    )


@st.composite
def frames(draw: st.DrawFn, schema: Schema) -> pl.DataFrame:
    rows = draw(st.integers(0, 1 if schema.kind == "attributes" else 12))

    def cells(column: Column) -> list[int | None]:
        low, high = column.range
        value: st.SearchStrategy[int | None] = st.integers(low, high)
        if column.nullable:
            value = st.none() | value
        return draw(st.lists(value, min_size=rows, max_size=rows))

    return without_my_numbers(
        schema, pl.DataFrame([pl.Series(n, cells(c), dtype=code_dtype(c)) for n, c in schema.items])
    )


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_frames_of_any_schemas_come_back(data: st.DataObject) -> None:
    tables = data.draw(st.lists(schemas(), min_size=1, max_size=3, unique_by=lambda s: s.name))
    puts = data.draw(st.lists(st.sampled_from(tables), min_size=1, max_size=5))
    expected = {schema.name: list[pl.DataFrame]() for schema in tables}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v"
        with Vault.create(path, device_key=KEY) as vault:
            for schema in puts:
                frame = data.draw(frames(schema))
                with vaults.large_from(data.draw(st.sampled_from([0, 100]))), vaults.parquet_always():
                    vault.put([(schema, frame)])
                if frame.height:
                    kept = expected[schema.name] if schema.kind == "events" else []
                    expected[schema.name] = [*kept, frame]
            _same(vault, puts, expected)
        with Vault.open(path, device_key=KEY) as vault:
            _same(vault, puts, expected)
            vault.compact()
            _same(vault, puts, expected)


def _same(vault: Vault, puts: list[Schema], expected: dict[str, list[pl.DataFrame]]) -> None:
    assert vault.tables() == {schema.name: schema for schema in puts}
    for schema in puts:
        types = {name: code_dtype(column) for name, column in schema.items}
        whole = pl.concat([pl.DataFrame(schema=types), *expected[schema.name]])
        found = vault.scan(schema.name)
        assert found.equals(whole)
        assert found.schema == whole.schema
        some = [name for name, _ in schema.items][::-1][:2]
        assert vault.scan(schema.name, some).equals(whole.select(some))


class Histories(RuleBasedStateMachine):
    """A vault beside a plain model of it, with thresholds so low that every path of the writer is taken."""

    @initialize()
    def make(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session, "FOLD_RECORDS", 6)
        self.patch.setattr(session, "FOLD_LOGS", 2)
        self.patch.setattr(vault_module, "LARGE_ROWS", 4)
        self.patch.setattr(codec, "SMALL_ROWS", 8)
        self.patch.setattr("datasov.vault.segment.MIN_ROWS", 16)
        self.patch.setattr("datasov.vault.segment.MAX_CELLS", 1)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "v"
        self.vault = Vault.create(self.path, device_key=KEY)
        self.rows: dict[str, list[tuple[object, ...]]] = {}
        self.note: bytes | None = None

    @rule(
        km=st.lists(st.integers(0, 50), max_size=9),
        wh=st.none() | st.integers(0, 10**6),
        age=st.none() | st.integers(0, 120),
    )
    def put(self, km: list[int], wh: int | None, age: int | None) -> None:
        items = [(TRIPS, trips(*km))]
        items += [(METER, meter(wh))] if wh is not None else []
        items += [(PERSON, person(age))] if age is not None else []
        self.vault.put(items)
        for schema, frame in items:
            kept = self.rows.get(schema.name, []) if schema.kind == "events" else []
            self.rows[schema.name] = kept + frame.rows()

    @rule(value=st.none() | st.binary(max_size=4))
    def keep(self, value: bytes | None) -> None:
        self.vault.set_state({"note": value})
        self.note = value

    @rule()
    def compact(self) -> None:
        self.vault.compact()

    @rule()
    def reopen(self) -> None:
        self.vault.close()
        self.vault = Vault.open(self.path, device_key=KEY)

    @rule()
    def forget(self) -> None:
        """As a crash does: the lock is let go, and nothing is sealed."""
        assert self.vault._lock is not None
        self.vault._lock.release()
        self.vault = Vault.open(self.path, device_key=KEY)

    @invariant()
    def equal(self) -> None:
        with Vault.open(self.path, device_key=KEY, write=False) as reader:
            for vault in (self.vault, reader):
                assert {name: vault.scan(name).rows() for name in vault.tables()} == self.rows
                assert vault.state("note") == self.note

    def teardown(self) -> None:
        self.vault.close()
        self.folder.cleanup()
        self.patch.undo()


Histories.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestHistories = Histories.TestCase
