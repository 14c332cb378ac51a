"""Tables of the catalogue on their whole way: put, granted, contributed, asked; and extensions of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasov as ds
from datasov import catalogue
from datasov.errors import ConsentError, InvalidQueryError
from datasov.kernel import monitor
from datasov.model import frames
from tests.helpers import PURPOSE, found_city, values

KEY = bytes(range(32))
ONE, PART = ds.zcdp(rho=1), ds.zcdp(rho="0.2")
SQUARES = catalogue.mesh.column(36.36, 139.03, 36.42, 139.11)
TRIPS, REGISTER, VISITS = (catalogue.schema(n) for n in ("trips", "resident_register", "visits"))
WIDER = catalogue.extend(
    TRIPS,
    columns={"from_mesh": ds.Category(SQUARES.values, nullable=True), "luggage": ds.Integer(0, 9, nullable=True)},
    keys=["from_mesh", ("from_mesh", "mode")],
)


def simulated(schema: ds.Schema, rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a schema, each value drawn evenly from what its column declares: simulated, of no person."""
    draw = random.Random(seed)
    return [{n: c.decode(draw.randint(*c.range)) for n, c in schema.stored} for _ in range(rows)]


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(values(t).copy()), real(t, p, r))[1])
    return seen


@pytest.fixture
def residents(tmp_path: Path, clock) -> Iterator[list[ds.Resident]]:
    made = [ds.Resident.create(tmp_path / f"{n}.vault", device_key=KEY, clock=clock) for n in range(3)]
    yield made
    for resident in made:
        resident.close()


def give(city: ds.City, resident: ds.Resident, schema: ds.Schema, **given: Any) -> ds.Consent:
    consent = resident.grant(city.id, schema, purpose=PURPOSE, loss=ONE, until="2030-01-01", **given)
    city.admit(consent, resident.contribute(consent))
    return consent


@pytest.mark.parametrize("name", catalogue.names())
def test_every_table_takes_rows_at_both_of_its_ends(name: str) -> None:
    schema = catalogue.schema(name)
    ends = [{n: c.decode(c.range[side]) for n, c in schema.stored} for side in (0, 1)]
    codes = frames.encode(schema, [*ends, *simulated(schema, 20, 1)])
    assert codes.height == 22
    assert [codes.row(i) for i in (0, 1)] == [tuple(c.range[i] for _, c in schema.stored) for i in (0, 1)]


@pytest.mark.parametrize("name", ["trips", "water", "property_tax", "long_term_care", "health_checks", "victimisation"])
def test_a_table_goes_the_whole_way(name: str, tmp_path: Path, clock, residents, exact) -> None:
    entry = catalogue.entry(name)
    schema, rows = entry.schema, 1 if entry.schema.kind == "attributes" else 4
    put = [simulated(schema, rows, seed) for seed in range(3)]
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=9)) as city:
        for resident, held in zip(residents, put, strict=True):
            resident.put(schema, held)
            if set(entry.special) == set(schema.columns):
                with pytest.raises(ConsentError, match="covers no column"):
                    resident.grant(city.id, schema, purpose=PURPOSE, loss=ONE, until="2030-01-01")
            give(city, resident, schema, special=entry.special)
        for keys in schema.key_sets[:2]:
            question = ds.query(schema).keys(*keys).bound(rows=4, keys=4).count()
            release = city.release(question, loss=PART, purpose=PURPOSE)
            assert release.frame().height == exact[-1].shape[1]
            assert exact[-1].sum() == 3 * rows


def test_special_columns_stay_at_home_unless_the_consent_names_them(tmp_path: Path, clock, residents, exact) -> None:
    """Missed appointments by age band: visits joined to the register inside the person."""
    question = ds.query(VISITS).join(REGISTER).keys("kept", "resident_register.age_band").bound(rows=1, keys=1).count()
    with found_city(tmp_path, clock) as city:
        ann, bob, cem = residents
        for resident in residents:
            resident.put(VISITS, [{**simulated(VISITS, 1, 5)[0], "kept": "missed"}])
            resident.put(REGISTER, [{**simulated(REGISTER, 1, 6)[0], "age_band": "75-79"}])
        give(city, ann, VISITS, special=catalogue.entry("visits").special, join=[REGISTER])
        give(city, bob, VISITS, columns=["at", "form"], special=["at", "form"], join=[REGISTER])
        with pytest.raises(ConsentError, match="special class"):
            give(city, cem, VISITS, columns=["kept"], join=[REGISTER])
        city.release(question, loss=PART, purpose=PURPOSE)
    assert exact[0].sum() == 1


def test_a_question_of_the_base_is_asked_of_an_extension(tmp_path: Path, clock, residents, exact) -> None:
    base = ds.query(TRIPS).keys("mode", ds.hour("at")).where(ds.col("km") > 3).bound(rows=2, keys=3).count().sum("km")
    asked = catalogue.onto(base, WIDER)
    assert (asked.key_list, asked.aggregates, asked.predicate, asked.rows) == (
        base.key_list, base.aggregates, base.predicate, base.rows,
    )  # fmt: skip
    assert asked.schema == WIDER
    rows = [simulated(TRIPS, 6, seed) for seed in range(3)]
    found = []
    for place, schema, question in (("base", TRIPS, base), ("wider", WIDER, asked)):
        (tmp_path / place).mkdir()
        with found_city(tmp_path / place, clock) as city:
            for n, held in enumerate(rows):
                with ds.Resident.create(tmp_path / place / f"{n}.vault", device_key=KEY, clock=clock) as resident:
                    own = {} if schema is TRIPS else {"from_mesh": SQUARES.values[n], "luggage": n}
                    resident.put(schema, [{**row, **own} for row in held])
                    give(city, resident, schema)
            preview = city.preview(question, loss=PART)
            city.release(question, loss=PART, purpose=PURPOSE)
            found.append((exact[-1], str(preview)))
            if schema is WIDER:
                own = ds.query(WIDER).keys("from_mesh").bound(rows=6, keys=1).count()
                assert city.release(own, loss=PART, purpose=PURPOSE).frame().height == len(SQUARES.values) + 1
                assert exact[-1][0][:4].tolist() == [6, 6, 6, 0]
    assert found[0][0].shape == found[1][0].shape
    assert found[0][0].sum() > 0
    assert found[0][1] == found[1][1]


def test_rows_put_under_the_base_stay_when_a_vault_goes_over_to_the_extension(tmp_path: Path, clock, residents) -> None:
    ann = residents[0]
    ann.put(TRIPS, simulated(TRIPS, 3, 1))
    ann.evolve(WIDER)
    ann.put(WIDER, [{**simulated(TRIPS, 1, 2)[0], "from_mesh": SQUARES.values[0], "luggage": 1}])
    assert ann.scan(WIDER)["from_mesh"].to_list() == [None, None, None, SQUARES.values[0]]
    assert ann.scan(TRIPS).columns == list(TRIPS.columns)
    assert ann.scan(TRIPS).height == 4


def test_an_extension_keeps_every_column_and_key_set_of_its_base() -> None:
    for entry in catalogue.entries():
        base = entry.schema
        wider = catalogue.extend(base, columns={"own": ds.Boolean(nullable=True)}, keys=["own"])
        assert wider.items[: len(base.items)] == base.items
        assert wider.key_sets == (*base.key_sets, (ds.Key("own"),))
        assert (wider.name, wider.domain, wider.kind) == (base.name, base.domain, base.kind)
        assert wider.digest != base.digest
        again = catalogue.extend(wider, columns={"more": ds.Boolean(nullable=True)})
        catalogue.check_extends(base, again)
        for keys in base.key_sets:
            question = ds.query(base).keys(*keys).bound(rows=1, keys=1).count()
            assert catalogue.onto(question, again) == ds.query(again).keys(*keys).bound(rows=1, keys=1).count()


def test_a_question_over_two_tables_follows_both_extensions() -> None:
    more = catalogue.extend(REGISTER, columns={"district": ds.Category(["A", "B"])})
    question = ds.query(TRIPS).join(REGISTER).keys("resident_register.age_band").bound(rows=1, keys=1).count()
    asked = catalogue.onto(question, more, WIDER)
    assert (asked.schema, asked.profiles) == (WIDER, (more,))
    assert catalogue.onto(asked, WIDER) == asked
    assert catalogue.onto(asked).keys("resident_register.district")


def test_what_is_no_extension_is_refused() -> None:
    question = ds.query(TRIPS).bound(rows=1, keys=1).count()
    with pytest.raises(InvalidQueryError, match="choose another name"):
        catalogue.extend(TRIPS, columns={"mode": ds.Boolean()})
    with pytest.raises(InvalidQueryError, match="not in the question"):
        catalogue.onto(question, REGISTER)
    changed = ds.Schema(
        "trips", domain="mobility", columns={**TRIPS.columns, "minutes": ds.Integer(0, 601, unit="min")}
    )
    fewer = ds.Schema("trips", domain="mobility", columns={n: c for n, c in TRIPS.items if n != "km"})
    for other, column in ((changed, "minutes"), (fewer, "km")):
        with pytest.raises(InvalidQueryError, match=f"changes column '{column}'"):
            catalogue.onto(question, other)
    elsewhere = ds.Schema("trips", domain="health", columns=TRIPS.columns)
    with pytest.raises(InvalidQueryError, match="no extension"):
        catalogue.onto(question, elsewhere)
    with pytest.raises(InvalidQueryError, match="forbidden"):
        catalogue.extend(TRIPS, columns={"own": ds.Boolean(legal="forbidden")})
    with pytest.raises(InvalidQueryError, match="16 key sets"):
        catalogue.extend(TRIPS, columns={"own": ds.Boolean()}, keys=[["own"]] * 16)
