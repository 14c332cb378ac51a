"""Derived columns: what may be declared, what comes back from a document, and what a vault computes."""

from __future__ import annotations

import datetime as dt
import json

import polars as pl
import pytest

import datasov as ds
from datasov.authority.coverage import coverage
from datasov.errors import ConsentError, InvalidDataError, InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model import frames
from datasov.model.document import canonical
from datasov.model.schema import Schema
from datasov.vault import Vault

WHEN = ds.Timestamp("2027-01-01", "2027-12-31", nullable=True)
RIDES = ds.Schema("rides", domain="mobility", columns={
    "at": WHEN, "line": ds.Category(["U1", "U2"]), "km": ds.Integer(0, 50, nullable=True),
    "fare": ds.Integer(0, 9, legal="special"),
})  # fmt: skip
NEAR = ds.Exists(RIDES, at="at", other="at", before="2h", after="2h")
VISITS = ds.Schema("visits", domain="health", columns={
    "at": WHEN, "ward": ds.Category(["A", "B"]), "near": NEAR,
    "recent": ds.Exists(RIDES, at="at", other="at", before="90d"),
    "u1": ds.Exists(RIDES, at="at", other="at", before="2h", after="2h", where=ds.col("line") == "U1"),
    "rides": ds.Exists(RIDES, where=ds.col("km") > 5),
    "any": ds.Exists(RIDES),
}, keys=["near"])  # fmt: skip
DERIVED = ["near", "recent", "u1", "rides", "any"]
PEOPLE = ds.Schema("people", domain="administration", kind="attributes", columns={
    "age": ds.Integer(0, 120), "rides": ds.Exists(RIDES, where=ds.col("line") == "U2"),
})  # fmt: skip
KEY = bytes(range(32))
BASE = dt.datetime(2027, 5, 1, 12, tzinfo=dt.UTC)


def visit(at: dt.datetime | None, ward: str = "A") -> dict[str, object]:
    return {"at": at, "ward": ward}


def ride(at: dt.datetime | None, line: str = "U1", km: int | None = 1) -> dict[str, object]:
    return {"at": at, "line": line, "km": km, "fare": 0}


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "ann.vault", device_key=KEY, clock=clock) as resident:
        yield resident


# --- declared


def test_a_derived_column_is_a_truth_value_without_nulls_of_the_class_of_what_it_reads():
    assert isinstance(NEAR, ds.Boolean)
    assert (NEAR.range, NEAR.nullable, NEAR.legal, NEAR.reads) == ((0, 1), False, "ordinary", ("at",))
    assert (NEAR.before, NEAR.after) == (7_200_000_000, 7_200_000_000)
    assert VISITS.column("u1").reads == ("at", "line")
    assert VISITS.column("any").reads == ("at", "fare", "km", "line")
    assert VISITS.column("any").legal == "special", "a row of a table with a special column tells of it"
    assert ds.Exists(RIDES, where=ds.col("fare") > 3).legal == "special"
    assert ds.Exists(RIDES, other="at", at="at", before="1s", legal="special").legal == "special"
    assert [n for n, _ in VISITS.stored] == ["at", "ward"]


@pytest.mark.parametrize(
    ("given", "micro"),
    [("2h", 7_200_000_000), ("0s", 0), ("90d", 90 * 86_400_000_000), ("1w", 7 * 86_400_000_000),
     ("30min", 1_800_000_000), ("7us", 7), ("7ms", 7_000), (dt.timedelta(hours=1, microseconds=3), 3_600_000_003)],
)  # fmt: skip
def test_durations_are_whole_microseconds(given, micro):
    assert ds.Exists(RIDES, at="at", other="at", before=given).before == micro
    assert ds.Exists(RIDES, at="at", other="at", before=given).after == 0


LATE = {"at": "at", "other": "at", "before": "2h"}
CHAIN = ds.Schema("chain", domain="energy", columns={"at": WHEN, "near": NEAR})


@pytest.mark.parametrize(
    "make",
    [
        lambda: ds.Exists("rides"), lambda: ds.Exists(PEOPLE), lambda: ds.Exists(RIDES, at="at", before="2h"),
        lambda: ds.Exists(RIDES, other="at", before="2h"), lambda: ds.Exists(RIDES, at="at", other="at"),
        lambda: ds.Exists(RIDES, before="2h"), lambda: ds.Exists(RIDES, after="0s"),
        lambda: ds.Exists(RIDES, **{**LATE, "other": "none"}), lambda: ds.Exists(RIDES, **{**LATE, "other": "km"}),
        lambda: ds.Exists(RIDES, where="km > 5"), lambda: ds.Exists(RIDES, where=ds.col("none") > 5),
        lambda: ds.Exists(RIDES, where=ds.col("line") > "U1"), lambda: ds.Exists(RIDES, where=ds.col("line") == "U9"),
        lambda: ds.Exists(CHAIN, where=ds.col("near") == True),  # noqa: E712
        lambda: ds.Exists(RIDES, legal="evil"),
        *(lambda d=d: ds.Exists(RIDES, **{**LATE, "before": d})
          for d in ("", "2", "h", "-2h", "2 h", "1.5h", "2H", "1h30min", "2y", "9" * 30 + "d", 7, 7.0, True, "٣h",
                    dt.timedelta(-1), dt.timedelta(days=400 * 366))),
        lambda: ds.Schema("s", domain="health", columns={"near": NEAR}),
        lambda: ds.Schema("s", domain="health", columns={"any": ds.Exists(RIDES), "x": ds.Exists(RIDES)}),
        lambda: ds.Schema("s", domain="health", columns={"when": WHEN, "near": NEAR}),
        lambda: ds.Schema("s", domain="health", columns={"at": ds.Integer(0, 5), "near": NEAR}),
        lambda: ds.Schema("rides", domain="health", columns={"at": WHEN, "near": NEAR}),
        lambda: ds.Schema("s", domain="health", columns={"at": WHEN, "near": NEAR, "old": ds.Exists(OTHER_RIDES)}),
        lambda: ds.Schema("s", domain="health", columns={"at": WHEN, "x": ds.Exists(RIDES, legal="forbidden")}),
        lambda: ds.query(VISITS).sum("near"), lambda: ds.query(VISITS).where(ds.col("near") > False),
        lambda: ds.query(VISITS).where(ds.col("near") == 1), lambda: ds.query(VISITS).keys(ds.bin("near", [1])),
        lambda: ds.query(VISITS).where(ds.col("rides.line") == "U1"),
    ],
)  # fmt: skip
def test_what_is_no_derived_column_is_refused(make):
    with pytest.raises(InvalidQueryError):
        make()


OTHER_RIDES = ds.Schema("rides", domain="mobility", columns={"at": WHEN, "line": ds.Category(["U1", "U2"])})


def test_the_column_comes_back_from_its_document_without_the_other_table():
    again = Schema.from_document(json.loads(canonical(VISITS.document())))
    assert again == VISITS
    assert hash(again) == hash(VISITS)
    assert again.digest == VISITS.digest
    for name in DERIVED:
        column = again.column(name)
        assert column == VISITS.column(name)
        assert column.over(RIDES) is column
        for other in (OTHER_RIDES, PEOPLE):
            with pytest.raises(InvalidQueryError):
                column.over(other)


def test_every_part_of_a_declaration_is_in_the_digest():
    window, where = {"at": "at", "other": "at", "before": "2h"}, ds.col("line") == "U1"
    columns = [
        ds.Exists(RIDES, **window), ds.Exists(RIDES, **window, after="1us"),
        ds.Exists(RIDES, **{**window, "before": "3h"}), ds.Exists(RIDES, **window, where=where),
        ds.Exists(RIDES, **window, where=~where), ds.Exists(RIDES, where=where), ds.Exists(RIDES),
        ds.Exists(OTHER_RIDES), ds.Boolean(), ds.Exists(RIDES, **{**window, "at": "seen"}),
        ds.Exists(RIDES, **window, legal="special"),
    ]  # fmt: skip
    schemas = [ds.Schema("s", domain="health", columns={"at": WHEN, "seen": WHEN, "x": c}) for c in columns]
    assert len({s.digest for s in schemas}) == len(schemas)


GOOD = VISITS.column("u1").document()
TIMELESS = VISITS.column("rides").document()
BAD = [
    {**GOOD, "table": ""}, {**GOOD, "table": "_x"}, {**GOOD, "table": 7}, {**GOOD, "schema": "ab"},
    {**GOOD, "schema": 7},
    {**GOOD, "schema": GOOD["schema"].upper()}, {**GOOD, "schema": GOOD["schema"] + "\n"}, {**GOOD, "columns": []},
    {**GOOD, "columns": ["at"]}, {**GOOD, "columns": ["line", "at"]}, {**GOOD, "columns": ["at", "at", "line"]},
    {**GOOD, "columns": ["at", "fare", "line"]}, {**GOOD, "columns": ["at", 7]}, {**GOOD, "columns": "at"},
    {**GOOD, "at": None}, {**GOOD, "other": None}, {**GOOD, "at": 7}, {**GOOD, "at": "none"}, {**GOOD, "before": -1},
    {**GOOD, "before": True}, {**GOOD, "after": 2**53 + 1}, {**GOOD, "after": 1.5}, {**GOOD, "legal": "forbidden"},
    {**GOOD, "legal": "x"}, {**GOOD, "nullable": False},
    {**GOOD, "where": {"op": "lt", "column": "line", "values": []}},
    {**GOOD, "where": {"op": "in", "column": "line", "values": []}}, {**GOOD, "where": {"op": "and", "parts": []}},
    {**GOOD, "where": {"op": "in", "column": "line", "values": [["x"]]}}, {**GOOD, "where": {"op": "not", "parts": []}},
    {**GOOD, "where": {"op": "lt", "column": "line", "values": ["U1", "U2"]}},
    {**GOOD, "where": {"op": "null", "column": "line", "values": ["U1"]}},
    {**GOOD, "where": {"op": "in", "column": 7, "values": ["U1"]}},
    {**TIMELESS, "before": 1}, {**TIMELESS, "after": 1}, {**TIMELESS, "columns": []},
    {**TIMELESS, "columns": [f"c{i:04}" for i in range(1025)], "where": None},
    {k: v for k, v in GOOD.items() if k != "where"},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_documents_that_describe_no_derived_column_are_refused(number):
    document = {**VISITS.document(), "columns": [["at", WHEN.document()], ["x", BAD[number]]], "keys": []}
    with pytest.raises(InvalidQueryError):
        Schema.from_document(document)
    fine = Schema.from_document({**document, "columns": [["at", WHEN.document()], ["x", GOOD]]})
    assert fine.column("x") == VISITS.column("u1")


# --- asked


def test_a_question_names_every_table_and_column_that_a_consent_must_cover():
    asked = ds.query(VISITS).join(PEOPLE).bound(rows=1, keys=2).count()
    visits, people, rides = (VISITS.digest, PEOPLE.digest, RIDES.digest)
    assert asked.tables() == (("visits", visits, ()), ("people", people, ()))
    assert asked.keys("near").tables() == (
        ("visits", visits, ("near",)),
        ("people", people, ()),
        ("rides", rides, ("at",)),
    )
    both = asked.where((ds.col("u1") == True) | (ds.col("people.rides") == True))  # noqa: E712
    assert both.tables() == (
        ("visits", visits, ("u1",)),
        ("people", people, ("rides",)),
        ("rides", rides, ("at", "line")),
    )
    assert compile(asked.keys("near")).cells == 2


def test_what_a_joined_column_reads_of_the_question_s_own_table_is_asked_of_that():
    query = ds.query(RIDES).join(PEOPLE).where(ds.col("people.rides") == True).bound(rows=1).count()  # noqa: E712
    assert query.tables() == (("rides", RIDES.digest, ("line",)), ("people", PEOPLE.digest, ("rides",)))
    compile(query)
    other = ds.query(OTHER_RIDES).join(PEOPLE).where(ds.col("people.rides") == True).bound(rows=1)  # noqa: E712
    with pytest.raises(InvalidQueryError, match="another table"):
        compile(other.count())


def test_more_tables_than_a_consent_can_name_are_refused_read_ones_included():
    tables = [ds.Schema(f"t{i}", domain="energy", columns={"x": ds.Boolean()}) for i in range(16)]
    wide = ds.Schema("wide", domain="health", columns={"n": ds.Integer(0, 9)} | {t.name: ds.Exists(t) for t in tables})
    query = ds.query(wide).bound(rows=1, keys=2).count()
    compile(query.keys(*(t.name for t in tables[:15])))
    with pytest.raises(InvalidQueryError, match="16 tables"):
        compile(query.keys(*(t.name for t in tables)))


# --- covered


def test_coverage_is_of_the_table_those_joined_and_exactly_what_is_read():
    found = coverage(VISITS, ["u1", "ward"], {PEOPLE: ["rides", "age"]}, [RIDES])
    assert [(c.table, c.schema_digest, c.columns) for c in found] == [
        ("visits", VISITS.digest, ("ward", "u1")), ("people", PEOPLE.digest, ("age", "rides")),
        ("rides", RIDES.digest, ("at", "line")),
    ]  # fmt: skip
    assert [c.columns for c in coverage(VISITS, None, [PEOPLE])] == [("at", "ward"), ("age",)]
    assert [c.columns for c in coverage(RIDES, ["line"], {PEOPLE: ["rides"]})] == [("line",), ("rides",)]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"columns": ["near"]}, ConsentError), ({"columns": ["ward"], "reads": [RIDES]}, ConsentError),
        ({"columns": None, "reads": [RIDES]}, ConsentError), ({"columns": ["near"], "reads": [PEOPLE]}, ConsentError),
        ({"columns": ["near"], "reads": [RIDES, PEOPLE]}, ConsentError),
        ({"columns": ["near"], "reads": [OTHER_RIDES]}, InvalidQueryError),
        ({"columns": ["near"], "join": [RIDES]}, ConsentError),
        ({"schema": RIDES, "columns": ["km"], "join": {PEOPLE: ["rides"]}}, ConsentError),
        ({"schema": RIDES, "columns": ["km"], "join": {PEOPLE: ["rides"]}, "reads": [RIDES]}, ConsentError),
        ({"schema": OTHER_RIDES, "columns": ["line"], "join": {PEOPLE: ["rides"]}}, ConsentError),
    ],
)  # fmt: skip
def test_coverage_that_is_not_what_is_read_is_refused(given, error):
    with pytest.raises(error):
        coverage(**{"schema": VISITS, **given})


def test_a_schema_that_belies_the_class_of_what_it_reads_is_not_granted():
    """A document may say that a column which reads a special one is ordinary: the other table itself tells."""
    document = {**VISITS.document(), "keys": []}
    lie = {**ds.Exists(RIDES, where=ds.col("fare") > 3).document(), "legal": "ordinary"}
    forged = Schema.from_document({**document, "columns": [["at", WHEN.document()], ["x", lie]]})
    with pytest.raises(InvalidQueryError):
        coverage(forged, ["x"], (), [RIDES])


# --- put


@pytest.mark.parametrize("form", ["list", "frame", "csv", "parquet"])
def test_rows_are_put_without_derived_columns(tmp_path, ann, form):
    def shaped(rows: list[dict[str, object]]) -> object:
        frame = pl.DataFrame(rows)
        if form == "csv":
            frame.with_columns(pl.col("at").dt.to_string("iso:strict")).write_csv(tmp_path / "x.csv")
        elif form == "parquet":
            frame.write_parquet(tmp_path / "x.parquet")
        return {"list": rows, "frame": frame}.get(form, tmp_path / f"x.{form}")

    with pytest.raises(InvalidDataError, match="derives") as why:
        ann.put(VISITS, shaped([{**visit(BASE), "near": True}]))
    assert why.value.column == "near"
    assert ann.scan(VISITS).height == 0
    assert ann.put(VISITS, shaped([visit(BASE)])) == 1
    assert ann.scan(VISITS).columns == ["at", "ward"]
    assert ann.scan(VISITS, ["near"]).to_dicts() == [{"near": False}]


def test_the_vault_itself_takes_no_derived_codes(tmp_path):
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        given = frames.encode(VISITS, [visit(BASE)])
        with pytest.raises(InvalidDataError):
            vault.put([(VISITS, given.with_columns(pl.lit(1, dtype=pl.UInt8).alias(n) for n in DERIVED))])
        vault.put([(VISITS, given)])
        assert vault.scan("visits").columns == ["at", "ward"]
        vault.compact()
        assert vault.scan("visits", ["any", "ward"]).to_dicts() == [{"any": 0, "ward": 0}]


# --- computed


def hour(value: float) -> dt.datetime:
    return BASE + dt.timedelta(hours=value)


MICRO = dt.timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("times", "near", "recent"),
    [
        ([], False, False), ([BASE], True, True), ([hour(2)], True, False), ([hour(2) + MICRO], False, False),
        ([hour(-2)], True, True), ([hour(-2) - MICRO], False, True), ([hour(-90 * 24)], False, True),
        ([hour(-90 * 24) - MICRO], False, False), ([hour(9), hour(-9)], False, True), ([None], False, False),
        ([None, hour(1), hour(1)], True, False), ([BASE.astimezone(dt.timezone(dt.timedelta(hours=-9)))], True, True),
    ],
)  # fmt: skip
def test_both_ends_of_a_window_count_to_the_microsecond(ann, times, near, recent):
    ann.put_all([(VISITS, [visit(BASE), visit(None)]), (RIDES, [ride(t) for t in times])])
    assert ann.scan(VISITS, ["near", "recent"]).rows() == [(near, recent), (False, False)], "an unknown time: false"


def test_an_unknown_time_is_not_the_beginning_of_1970(ann):
    """Inside, a null has the code 0 for a moment, which is an instant as good as any other."""
    when = ds.Timestamp("1960-01-01", "1980-01-01", nullable=True)
    rides = ds.Schema("rides", domain="mobility", columns={"at": when})
    near = ds.Exists(rides, at="at", other="at", before="1h", after="1h")
    visits = ds.Schema("visits", domain="health", columns={"at": when, "near": near})
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    ann.put_all(
        [(visits, [{"at": None}, {"at": epoch}, {"at": epoch + dt.timedelta(hours=2)}]), (rides, [{"at": None}])]
    )
    assert ann.scan(visits, ["near"])["near"].to_list() == [False, False, False]
    ann.put(rides, [{"at": epoch}])
    assert ann.scan(visits, ["near"])["near"].to_list() == [False, True, False]


def test_the_where_of_the_other_table_and_columns_without_times(ann):
    ann.put(VISITS, [visit(BASE), visit(hour(5)), visit(None)])
    assert ann.scan(VISITS, DERIVED).rows() == [(False,) * 5] * 3, "a table that the vault does not know has no rows"
    ann.put(RIDES, [ride(hour(5), "U2", None)])
    assert ann.scan(VISITS, DERIVED).rows() == [(False, False, False, False, True), (True, True, False, False, True),
                                                (False, False, False, False, True)]  # fmt: skip
    ann.put(RIDES, [ride(None, "U1", 6), ride(hour(6), "U1", 5)])
    assert ann.scan(VISITS, ["u1", "at", "rides"]).select("u1", "rides").rows() == [
        (False, True),
        (True, True),
        (False, True),
    ]
    ann.put(PEOPLE, [{"age": 40}])
    assert ann.scan(PEOPLE, ["rides"]).rows() == [(True,)]
    assert ann.scan(PEOPLE).rows() == [(40,)]


def test_a_spring_hour_that_a_zone_skips_is_no_hour(ann):
    """Windows are of true time: 23:30 to 02:30 is two hours where the clock was set forward in between."""
    zone = ds.Timestamp("2027-01-01", "2027-12-31", zone="Europe/Berlin")
    rides = ds.Schema("rides", domain="mobility", columns={"at": zone})
    visits = ds.Schema("visits", domain="health", columns={
        "at": zone, "near": ds.Exists(rides, at="at", other="at", before="2h"),
    })  # fmt: skip
    ann.put_all([(visits, [{"at": "2027-03-28T03:30"}, {"at": "2027-03-27T03:30"}])])
    ann.put(rides, [{"at": "2027-03-28T00:30"}, {"at": "2027-03-27T00:30"}])
    assert ann.scan(visits, ["near"]).rows() == [(True,), (False,)]


def test_the_other_table_under_another_schema_is_an_error_that_says_so(ann, city):
    ann.put_all([(VISITS, [visit(BASE)]), (OTHER_RIDES, [{"at": BASE, "line": "U1"}])])
    with pytest.raises(InvalidDataError, match="another schema") as why:
        ann.scan(VISITS, ["near"])
    assert why.value.column == "near"
    assert ann.scan(VISITS).height == 1
    consent = ann.grant(
        city.id,
        VISITS,
        purpose="bus-planning",
        loss=ds.zcdp(rho=0.1),
        until="2030-01-01",
        columns=["near"],
        reads=[RIDES],
    )
    with pytest.raises(InvalidDataError, match="another schema"):
        ann.contribute(consent)


def test_a_document_that_lies_about_the_other_table_is_not_computed(tmp_path, ann):
    ann.put(RIDES, [ride(BASE)])
    lies = [
        {**GOOD, "where": {"op": "in", "column": "line", "values": ["U7"]}},
        {**GOOD, "where": {"op": "gt", "column": "line", "values": ["U1"]}},
        {**GOOD, "other": "none", "columns": ["line", "none"]},
        {**TIMELESS, "where": {"op": "gt", "column": "fare", "values": [3]}, "columns": ["fare"]},
        {**VISITS.column("any").document(), "columns": ["at"]},
        {**GOOD, "other": "km", "columns": ["km", "line"]},
    ]
    for number, lie in enumerate(lies):
        forged = Schema.from_document(
            {**VISITS.document(), "name": f"v{number}", "columns": [["at", WHEN.document()], ["x", lie]], "keys": []}
        )
        ann.put(forged, [{"at": BASE}])
        with pytest.raises(InvalidQueryError):
            ann.scan(forged, ["x"])


def test_derived_columns_look_at_all_rows_wherever_they_lie_in_the_vault(tmp_path, clock):
    with ds.Resident.create(tmp_path / "v", device_key=KEY, clock=clock) as bob:
        bob.put(VISITS, [visit(hour(n)) for n in (0, 10, 20)])
        bob.put(RIDES, [ride(hour(0))])
        bob.compact()
        bob.put(RIDES, [ride(hour(10))])
    with ds.Resident.open(tmp_path / "v", device_key=KEY, clock=clock) as bob:
        assert bob.scan(VISITS, ["near"])["near"].to_list() == [True, True, False]
        assert bob.scan(VISITS, ["near", "ward", "at"]).columns == ["near", "ward", "at"]
    with Vault.open(tmp_path / "v", device_key=KEY, write=False) as reader:
        assert reader.scan("visits", ["near"])["near"].to_list() == [1, 1, 0]
        with pytest.raises(InvalidDataError):
            reader.scan("visits", ["near", "near"])
