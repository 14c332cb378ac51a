"""Schemas that follow one another: rows already put stay as they lie, and are read under the newest."""

from __future__ import annotations

import os

import pytest

import datasov as ds
from datasov.errors import ConsentError, InvalidDataError
from tests import vaults
from tests.helpers import COUNT, PURPOSE, found_city

KEY = bytes(range(32))
OLD_COLUMNS = {"district": ds.Category("NESW"), "km": ds.Integer(0, 50)}
V1 = ds.Schema("trips", domain="mobility", columns=OLD_COLUMNS, keys=[("district",)])
V2 = ds.Schema("trips", domain="mobility", columns={
    "mode": ds.Category(["bus", "rail"]), "km": ds.Integer(-5, 50_000, nullable=True),
    "note": ds.Integer(0, 9, nullable=True),
    "district": ds.Category([*"NESW", *(f"x{i}" for i in range(300))]),
})  # fmt: skip
V3 = ds.Schema(
    "trips", domain="mobility", columns={"mode": ds.Category(["bus", "rail", "tram"]), "km": V2.column("km")}
)
ROWS = [{"district": "N", "km": 7}, {"district": "W", "km": 50}]


@pytest.fixture
def ann(tmp_path, clock):
    with ds.Resident.create(tmp_path / "v", device_key=KEY, clock=clock) as resident:
        yield resident


def files(tmp_path):
    return {f: f.read_bytes() for name in ("seg", "log") for f in (tmp_path / "v" / name).iterdir()}


@pytest.mark.parametrize("kept_in", ["log", "segment", "parquet"])
def test_rows_are_read_under_the_schema_that_follows_without_being_written_anew(ann, tmp_path, kept_in):
    with vaults.large_from(0 if kept_in != "log" else 99):
        if kept_in == "parquet":
            with vaults.parquet_always():
                ann.put(V1, ROWS)
        else:
            ann.put(V1, ROWS)
    before = files(tmp_path)
    ann.evolve(V2, fill={"mode": "rail"})
    assert files(tmp_path) == before
    assert ann.tables() == {"trips": V2}
    old = [{"mode": "rail", "note": None, **row} for row in ROWS]
    assert sorted(ann.scan(V2).columns) == sorted(V2.columns)
    new = {"mode": "bus", "km": None, "note": 3, "district": "x299"}
    ann.put(V2, [new])
    for _ in range(3):
        assert [dict(sorted(r.items())) for r in ann.scan(V2).to_dicts()] == [
            dict(sorted(r.items())) for r in [*old, new]
        ]
        assert ann.scan(V2, ["note"]).to_dicts() == [{"note": None}, {"note": None}, {"note": 3}]
        assert ann.scan(V2, ["mode", "note"]).rows() == [("rail", None), ("rail", None), ("bus", 3)]
        ann.close()
        ann._vault = ds.Resident.open(tmp_path / "v", device_key=KEY)._vault
        ann.compact()
    ann.evolve(V3)
    ann.put(V3, [{"mode": "tram", "km": 1}])
    assert ann.scan(V3).rows() == [("rail", 7), ("rail", 50), ("bus", None), ("tram", 1)]
    ann.compact()
    assert ann.scan(V3).rows() == [("rail", 7), ("rail", 50), ("bus", None), ("tram", 1)]


def test_a_row_of_an_attribute_table_is_read_under_the_schema_that_follows(ann):
    one = ds.Schema("p", domain="health", kind="attributes", columns={"age": ds.Integer(0, 99)})
    two = ds.Schema(
        "p", domain="health", kind="attributes", columns={"age": ds.Integer(0, 999), "b": ds.Boolean(nullable=True)}
    )
    ann.put(one, [{"age": 5}])
    ann.evolve(two)
    assert ann.scan(two).rows() == [(5, None)]
    ann.compact()
    ann.put(two, [{"age": 500, "b": True}])
    assert ann.scan(two).rows() == [(500, True)]


def changed(**columns: object) -> ds.Schema:
    return ds.Schema("trips", domain="mobility", columns={**OLD_COLUMNS, **columns})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("schema", "fill", "why"),
    [
        (changed(km=ds.Integer(0, 49)), {}, "bounds grow"), (changed(km=ds.Integer(1, 50)), {}, "bounds grow"),
        (changed(km=ds.Integer(0, 50, unit="km")), {}, "its unit"), (changed(km=ds.Decimal(0, 50)), {}, "its type"),
        (changed(district=ds.Category("NES")), {}, "grows at its end"),
        (changed(district=ds.Category("NEWS")), {}, "grows at its end"),
        (changed(new=ds.Integer(0, 9)), {}, "nullable, or give one in fill"),
        (changed(new=ds.Integer(0, 9)), {"new": 10}, "outside the declared bounds"),
        (changed(new=ds.Integer(0, 9)), {"new": "x"}, "not a number"),
        (changed(new=ds.Integer(0, 9, nullable=True)), {"km": 1}, "leave it out of fill"),
        (changed(new=ds.Integer(0, 9, nullable=True)), {"other": 1}, "leave it out of fill"),
        (ds.Schema("trips", domain="energy", columns=OLD_COLUMNS), {}, "its domain"),
        (ds.Schema("trips", domain="mobility", columns=OLD_COLUMNS, kind="attributes"), {}, "its kind"),
        (ds.Schema("rides", domain="mobility", columns=OLD_COLUMNS), {}, "put rows into it first"),
    ],
)  # fmt: skip
def test_what_cannot_follow_is_refused_with_what_to_do(ann, schema, fill, why):
    ann.put(V1, ROWS)
    with pytest.raises(InvalidDataError, match=why):
        ann.evolve(schema, fill)
    assert ann.tables() == {"trips": V1}
    assert ann.scan(V1).to_dicts() == ROWS


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (ds.Integer(0, 9, nullable=True), ds.Integer(0, 9), "nullable"),
        (ds.Integer(0, 9, legal="special"), ds.Integer(0, 9), "legal class"),
        (ds.Decimal(0, 9, scale=1), ds.Decimal(0, 9, scale=2), "scale"),
        (ds.Decimal(0, 9, unit="EUR"), ds.Decimal(0, 9, unit="JPY"), "unit"),
        (ds.Timestamp("2026-01-01T00Z", "2027-01-01T00Z", zone="UTC"), ds.Timestamp("2026-01-01T00Z", "2027-01-01T00Z"),
         "zone"),
        (ds.Integer(0, 9), ds.Integer(0, 9, nullable=True, legal="special"), None),
        (ds.Decimal(0, 9, scale=1), ds.Decimal("-0.1", "9.1", scale=1), None),
        (ds.Timestamp("2026-01-01", "2027-01-01"), ds.Timestamp("2025-01-01", "2027-01-02"), None),
    ],
)  # fmt: skip
def test_one_column_after_another(ann, old, new, why):
    one, two = (ds.Schema("t", domain="energy", columns={"c": c, "n": ds.Boolean()}) for c in (old, new))
    ann.put(one, [])
    if why is None:
        ann.evolve(two)
        assert ann.tables() == {"t": two}
    else:
        with pytest.raises(InvalidDataError, match=why) as found:
            ann.evolve(two)
        assert found.value.column == "c"


def test_a_name_that_was_retired_does_not_come_back_with_another_meaning(ann):
    ann.put(V1, ROWS)
    ann.evolve(ds.Schema("trips", domain="mobility", columns={"km": OLD_COLUMNS["km"]}))
    with pytest.raises(InvalidDataError, match="retired before"):
        ann.evolve(changed(district=ds.Category(["a"], nullable=True)))
    with pytest.raises(InvalidDataError, match="this very schema before"):
        ann.evolve(V1)


def test_rows_are_put_under_the_newest_schema_alone(ann):
    ann.put(V1, ROWS)
    ann.evolve(V2, fill={"mode": "bus"})
    ann.evolve(V2)
    with pytest.raises(InvalidDataError, match="another schema"):
        ann.put(V1, ROWS)
    with pytest.raises(InvalidDataError, match="another schema"):
        ann.put(V3, [])


def test_rows_are_read_under_an_earlier_schema_while_they_fit_it(ann):
    ann.put(V1, ROWS)
    ann.evolve(V2, fill={"mode": "bus"})
    ann.put(V2, [{"mode": "bus", "km": 3, "district": "S"}])
    assert ann.scan(V1).to_dicts() == [*ROWS, {"district": "S", "km": 3}]
    ann.put(V2, [{"mode": "bus", "km": 51, "district": "S"}, {"mode": "bus", "km": None, "district": "x0"}])
    for column, row in (("km", 3), ("district", 4)):
        with pytest.raises(InvalidDataError, match="newer schema") as found:
            ann.scan(V1, [column])
        assert (found.value.row, found.value.column) == (row, column)
    nulls = ds.Schema("nulls", domain="mobility", columns={"n": ds.Integer(0, 9)})
    ann.put(nulls, [{"n": 1}])
    ann.evolve(ds.Schema("nulls", domain="mobility", columns={"n": ds.Integer(0, 9, nullable=True)}))
    ann.put(ann.tables()["nulls"], [{"n": None}])
    with pytest.raises(InvalidDataError, match="newer schema") as found:
        ann.scan(nulls)
    assert found.value.row == 1
    ann.evolve(V3)
    with pytest.raises(InvalidDataError, match="retired"):
        ann.scan(V1, ["district"])
    assert ann.scan(V2, ["km"]).height == 5
    with pytest.raises(InvalidDataError, match="another schema"):
        ann.scan(changed(km=ds.Integer(0, 60)))


def test_a_consent_under_an_earlier_schema_works_while_the_rows_fit_it(ann, tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        ann.put(V1, ROWS)
        consent = ann.grant(city.id, V1, purpose=PURPOSE, loss=ds.zcdp(rho="0.3"), until="2030-01-01")
        ann.evolve(V2, fill={"mode": "bus"})
        ann.put(V2, [{"mode": "rail", "km": 1, "district": "N"}])
        city.admit(consent, ann.contribute(consent))
        assert city.release(COUNT, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE).frame().height == 4
        newer = ann.grant(city.id, V2, purpose=PURPOSE, loss=ds.zcdp(rho="0.1"), until="2030-01-01")
        city.admit(newer, ann.contribute(newer))
        ann.put(V2, [{"mode": "rail", "km": 51, "district": "N"}])
        with pytest.raises(ConsentError, match=r"earlier schema.*column 'km'.*grant a new one"):
            ann.contribute(consent)
        city.admit(newer, ann.contribute(newer))
        ann.evolve(V3)
        for old in (consent, newer):
            with pytest.raises(ConsentError, match=r"retired.*grant a new one"):
                ann.contribute(old)


def test_rows_that_only_a_derived_column_reads_stay_at_home_under_an_earlier_schema(ann, tmp_path, clock):
    """The consent names a table that is only read. Whatever version the base table has, its rows do not travel."""
    rides = ds.Schema("rides", domain="health", columns={"line": ds.Category(["U1"])})
    base = {"km": ds.Integer(0, 9), "near": ds.Exists(rides)}
    one, two = (
        ds.Schema("visits", domain="mobility", columns=c) for c in (base, {**base, "new": ds.Boolean(nullable=True)})
    )
    ann.put_all([(one, [{"km": 1}]), (rides, [{"line": "U1"}])])
    with found_city(tmp_path, clock) as city:
        consent = ann.grant(
            city.id, one, purpose=PURPOSE, loss=ds.zcdp(rho="0.3"), until="2030-01-01", columns=["km", "near"],
            reads=[rides],
        )  # fmt: skip
        size = len(ann.contribute(consent))
        ann.evolve(two)
        contribution = ann.contribute(consent)
        assert len(contribution) == size
        city.admit(consent, contribution)
        ann.evolve(
            ds.Schema(
                "visits", domain="mobility", columns={**base, "near": ds.Exists(rides, where=ds.col("line") == "U1")}
            )
        )
        with pytest.raises(ConsentError, match=r"derived column was changed"):
            ann.contribute(consent)


def test_a_vault_whose_schemas_never_changed_is_written_as_before(ann, tmp_path):
    from datasov.vault import manifest

    ann.put(V1, ROWS)
    assert [len(t) for t in manifest._document(ann._vault._session.manifest)[5]] == [3]
    ann.evolve(V2, {"mode": "rail"})
    assert manifest._document(ann._vault._session.manifest)[5][0][4] == {"mode": 1}
    assert os.listdir(tmp_path / "v" / "manifest")
