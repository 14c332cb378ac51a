"""Claim: a derived column reaches the pool only under a consent that names exactly the tables and columns it read.

The contributions here are made by hand: by a client that does not do what the vault does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import polars as pl
import pytest

import datasov as ds
from datasov.authority.admission import Admission, pack_table
from datasov.errors import ConsentError, InvalidDataError, VerificationError
from datasov.kernel import monitor
from datasov.model.consent import Coverage
from datasov.model.document import canonical
from datasov.pool.draft import Draft
from datasov.wire import cbor, columns
from tests.adversary.test_contributions import refused
from tests.helpers import CITY_ID, NOW, PURPOSE, RHO, Harness, consent_for, signed, values

WHEN = ds.Timestamp("2027-01-01", "2027-12-31")
RIDES = ds.Schema("rides", domain="mobility", columns={"at": WHEN, "line": ds.Category(["U1", "U2"])})
OLDER = ds.Schema("rides", domain="mobility", columns={"at": WHEN, "line": ds.Category(["U1", "U2", "U3"])})
PAY = ds.Schema("pay", domain="payments", columns={"at": WHEN})
PEOPLE = ds.Schema("people", domain="administration", kind="attributes", columns={
    "age": ds.Integer(0, 120), "rides": ds.Exists(RIDES),
})  # fmt: skip
VISITS = ds.Schema("visits", domain="health", columns={
    "at": WHEN, "ward": ds.Category(["A", "B"]),
    "near": ds.Exists(RIDES, at="at", other="at", before="2h", where=ds.col("line") == "U1"),
})  # fmt: skip
ROWS = pl.DataFrame({"ward": [0, 1], "near": [1, 0]}, {"ward": pl.UInt8, "near": pl.UInt8})
AT = int(WHEN.encode("2027-05-01T10:00"))
RIDE = pl.DataFrame({"at": [AT], "line": [0]}, {"at": pl.Int64, "line": pl.UInt8})
PERSON = pl.DataFrame({"age": [30]}, {"age": pl.UInt8})

OWN = Coverage("visits", VISITS.digest, ("ward", "near"))
READ = Coverage("rides", RIDES.digest, ("at", "line"))
WHO = Coverage("people", PEOPLE.digest, ("age",))


def attempt(
    city: ds.City, covered: Sequence[Coverage], rows: pl.DataFrame = ROWS,
    profiles: Sequence[tuple[str, bytes]] = (), schema: ds.Schema = VISITS, name: str = "mallory",
) -> tuple:  # fmt: skip
    consent = consent_for(city, schema, name, coverage=tuple(covered))
    return consent, signed(city, consent, name, 1, pack_table(schema, rows), profiles)


def test_what_is_right_is_admitted(city):
    city.admit(*attempt(city, [OWN, READ]))
    person = [("people", pack_table(PEOPLE, PERSON))]
    city.admit(*attempt(city, [OWN, WHO, READ], profiles=person, name="malory"))


def test_column_order_and_table_order_carry_no_meaning(city):
    """Of the tables that are only read: those that travel are named in the order in which they travel."""
    pay = ds.Schema("v", domain="health", columns={"x": ds.Boolean(), "p": ds.Exists(PAY), "r": ds.Exists(RIDES)})
    rows = pl.DataFrame({"p": [1], "r": [0]}, {"p": pl.UInt8, "r": pl.UInt8})
    own, paid = Coverage("v", pay.digest, ("p", "r")), Coverage("pay", PAY.digest, ("at",))
    for name, read in (("a", [READ, paid]), ("b", [paid, Coverage("rides", RIDES.digest, ("line", "at"))])):
        consent = consent_for(city, pay, name, coverage=(own, *read))
        city.admit(consent, signed(city, consent, name, 1, pack_table(pay, rows)))


@pytest.mark.parametrize(
    "covered",
    [
        [OWN],
        [OWN, Coverage("rides", OLDER.digest, ("at", "line"))],
        [OWN, Coverage("rides", bytes(32), ("at", "line"))],
        [OWN, Coverage("rides", VISITS.digest, ("at", "line"))],
        [OWN, Coverage("rides", RIDES.digest, ("at",))],
        [OWN, Coverage("rides", RIDES.digest, ("line",))],
        [OWN, Coverage("rides", RIDES.digest, ("at", "line", "km"))],
        [OWN, Coverage("trips", RIDES.digest, ("at", "line"))],
        [OWN, READ, Coverage("pay", PAY.digest, ("at",))],
        [OWN, Coverage("pay", PAY.digest, ("at",))],
        [OWN, READ, WHO],
        [OWN, WHO, READ],
        [OWN, WHO],
    ],
)
def test_a_consent_that_does_not_name_exactly_what_is_read_is_refused(city, covered):
    refused(city, *attempt(city, covered), ConsentError)


def test_a_consent_that_reads_more_than_its_columns_need_is_refused(city):
    own = Coverage("visits", VISITS.digest, ("ward",))
    refused(city, *attempt(city, [own, READ], ROWS.select("ward")), ConsentError, "derived")


@pytest.mark.parametrize(
    ("covered", "carried"),
    [
        ([OWN, READ], ["rides"]), ([OWN, WHO, READ], ["people", "rides"]), ([OWN, WHO, READ], ["rides"]),
        ([OWN, READ, WHO], ["rides", "people"]), ([OWN, READ, WHO], ["people"]), ([OWN, WHO, READ], []),
        ([OWN, WHO], ["people", "rides"]), ([OWN, WHO], ["people"]), ([OWN, WHO, READ], ["people", "people"]),
    ],
)  # fmt: skip
def test_rows_of_a_table_that_is_only_read_are_refused(city, covered, carried):
    tables = {"rides": pack_table(RIDES, RIDE), "people": pack_table(PEOPLE, PERSON)}
    sent = [(name, tables[name]) for name in carried]
    consent = consent_for(city, VISITS, "mallory", coverage=tuple(covered))
    try:
        sealed = signed(city, consent, "mallory", 1, pack_table(VISITS, ROWS), sent)
    except VerificationError:
        assert carried == ["people", "people"], "one name twice cannot even be written"
        return
    refused(city, consent, sealed, ConsentError)


def test_no_rows_of_a_table_that_is_only_read_are_refused_too(city):
    """An empty table is still one that was carried."""
    refused(city, *attempt(city, [OWN, READ], profiles=[("rides", pack_table(RIDES, RIDE.clear()))]), ConsentError)


def test_a_derived_column_that_the_consent_does_not_cover_is_refused(city):
    own = Coverage("visits", VISITS.digest, ("ward",))
    refused(city, *attempt(city, [own]), ConsentError, "covered")
    refused(city, *attempt(city, [own, READ]), ConsentError, "covered")


@pytest.mark.parametrize("bad", [[2, 0], [255, 0], [None, 1]])
def test_what_is_no_truth_value_is_refused(city, bad):
    refused(city, *attempt(city, [OWN, READ], ROWS.with_columns(near=pl.Series(bad, dtype=pl.UInt8))), InvalidDataError)


def test_an_attribute_table_made_to_look_read_is_no_way_around_its_own_row(city):
    """A joined column that reads the table itself, or one that the consent carries without what is read."""
    own = Coverage("rides", RIDES.digest, ("line",))
    who = Coverage("people", PEOPLE.digest, ("age", "rides"))
    person = PERSON.with_columns(rides=pl.Series([1], dtype=pl.UInt8))
    sent = [("people", pack_table(PEOPLE, person))]
    refused(city, *attempt(city, [own, who], RIDE.select("line"), sent, RIDES), ConsentError, "derived")
    older = Coverage("rides", OLDER.digest, ("at", "line"))
    refused(city, *attempt(city, [older, who], RIDE, sent, OLDER), ConsentError, "derived")
    whole = Coverage("rides", RIDES.digest, ("at", "line"))
    city.admit(*attempt(city, [whole, who], RIDE, sent, RIDES))


GOOD = VISITS.column("near").document()
DEEP = b'{"op":"not","parts":[' * 5_000 + canonical(GOOD["where"]) + b"]}" * 5_000
HOSTILE = [
    {**GOOD, "where": {"op": "not", "parts": [GOOD["where"]] * 2}}, {**GOOD, "schema": "00"},
    {**GOOD, "columns": ["at"]}, {**GOOD, "columns": None}, {**GOOD, "columns": 7},
    {**GOOD, "columns": {"at": 1, "line": 2}}, {**GOOD, "where": []}, {**GOOD, "where": {"op": ["in"]}},
    {**GOOD, "where": {"op": "in", "column": [], "values": ["U1"]}},
    {**GOOD, "where": {"op": "in", "column": "line", "values": {"U1": 1}}}, {**GOOD, "table": "visits"},
    {**GOOD, "at": "ward"}, {**GOOD, "at": ["at"]}, {**GOOD, "before": 10**400}, {**GOOD, "legal": ["special"]},
    {**GOOD, "before": 1.5}, {**GOOD, "more": 1}, {"type": "exists"}, {**GOOD, "nullable": True},
    {**GOOD, "type": ["x"]}, {**GOOD, "legal": "forbidden"}, {**GOOD, "where": "DEEP"},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_derived_columns_are_refused_by_an_error_of_ours(city, number):
    """The consent names the very text, so that nothing but the declaration itself can be at fault."""

    def sent(near: dict) -> tuple:
        listed = [["ward", VISITS.column("ward").document()], ["at", WHEN.document()], ["near", near]]
        text = json.dumps({**VISITS.document(), "columns": listed}, sort_keys=True, separators=(",", ":")).encode()
        text = text.replace(b'"DEEP"', DEEP)
        covered = Coverage("visits", hashlib.sha256(text).digest(), ("ward", "near"))
        consent = consent_for(city, VISITS, "mallory", coverage=(covered, READ))
        return consent, signed(city, consent, "mallory", 1, cbor.encode([text, columns.pack(ROWS)]))

    (why,) = city.admit_many([sent(HOSTILE[number])])
    assert isinstance(why, VerificationError | ConsentError | InvalidDataError | ds.InvalidQueryError), why
    city.admit(*sent(GOOD))


def test_a_consent_over_one_domain_never_answers_for_two(city, monkeypatch):
    """Whatever was admitted, a question that reads the bit draws on joint consents alone."""
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(values(t).copy()), real(t, p, r))[1])
    plain = consent_for(city, VISITS, "plain", columns=["ward"])
    city.admit(plain, signed(city, plain, "plain", 1, pack_table(VISITS, ROWS.select("ward"))))
    rides = consent_for(city, RIDES, "rides")
    city.admit(rides, signed(city, rides, "rides", 1, pack_table(RIDES, RIDE)))
    both = ds.query(VISITS).bound(rows=9, keys=2)
    for query in (both.where(ds.col("near") == True), both.keys("near"), both.where(ds.col("near").is_null())):  # noqa: E712
        city.release(query.count(), loss=RHO, purpose=PURPOSE)
        assert not seen[-1].any()
    city.admit(*attempt(city, [OWN, READ]))
    city.release(both.keys("near").count().distinct(), loss=RHO, purpose=PURPOSE)
    assert seen[-1].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("read", "counts"),
    [
        ([READ], True), ([], False), ([Coverage("rides", OLDER.digest, ("at", "line"))], False),
        ([Coverage("rides", RIDES.digest, ("at",))], False), ([Coverage("pay", PAY.digest, ("at",))], False),
        ([Coverage("rides", RIDES.digest, ("line", "at", "km"))], True),
    ],
)  # fmt: skip
def test_the_pool_asks_for_every_domain_itself(tmp_path, read, counts):
    """A second line: had admission let a narrower consent in, a question that reads the bit leaves it out."""
    harness = Harness(tmp_path)
    consent = consent_for(CITY_ID, VISITS, "mallory", coverage=(OWN, *read))
    draft = Draft(harness.registry, harness.store, harness.pool, NOW)
    assert draft.add(Admission(consent, 1, bytes(32), ROWS, {}, (VISITS,)))
    draft.write()
    query = ds.query(VISITS).bound(rows=9).count()
    assert harness.totals(query).tolist() == [[2]]
    assert harness.totals(query.where(ds.col("near") == True)).tolist() == [[1 if counts else 0]]  # noqa: E712
