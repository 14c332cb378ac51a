"""Two domains joined inside the person, through a whole city: who counts, who does not, and what each of them sees."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

import datasov as ds
from datasov.authority import messages
from datasov.authority.admission import admit
from datasov.errors import ConsentError
from datasov.kernel import monitor
from datasov.model.privacy import Loss
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from tests.helpers import NOW, PURPOSE, RHO, found_city, values

KEY = bytes(range(32))
WHEN = ds.Timestamp("2027-01-01", "2027-12-31")
RIDES = ds.Schema("rides", domain="mobility", columns={"at": WHEN, "line": ds.Category(["U1", "U2"])}, keys=["line"])
PEOPLE = ds.Schema("people", domain="administration", kind="attributes", columns={
    "age": ds.Integer(0, 120), "rides": ds.Exists(RIDES),
})  # fmt: skip
VISITS = ds.Schema("visits", domain="health", columns={
    "at": WHEN, "ward": ds.Category(["A", "B"]), "near": ds.Exists(RIDES, at="at", other="at", before="2h", after="2h"),
}, keys=["ward", "near", ("ward", "near")])  # fmt: skip
BASE = dt.datetime(2027, 5, 1, 12, tzinfo=dt.UTC)
ONE, BIT = ds.zcdp(rho=1), Loss(10**6)
BOTH = {"columns": ["at", "ward", "near"], "reads": [RIDES]}
ALL = ds.query(VISITS).bound(rows=9, keys=2)
RODE = ALL.where(ds.col("near") == True).keys("ward").count()  # noqa: E712


@pytest.fixture
def exact(monkeypatch) -> list[np.ndarray]:
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(values(t).copy()), real(t, p, r))[1])
    return seen


@pytest.fixture
def people(tmp_path, clock):
    """Vaults by name: each holds three visits in ward A, B, B and a ride with the first and the last of them."""
    made = {}
    for name in ("ann", "bob", "cem", "dee"):
        made[name] = ds.Resident.create(tmp_path / name, device_key=KEY, clock=clock)
        visits = [{"at": BASE + dt.timedelta(days=d), "ward": w} for d, w in ((0, "A"), (1, "B"), (2, "B"))]
        rides = [{"at": BASE + dt.timedelta(days=d, hours=1), "line": "U1"} for d in (0, 2)]
        made[name].put_all([(VISITS, visits), (RIDES, rides), (PEOPLE, [{"age": 30}])])
    yield made
    for resident in made.values():
        resident.close()


def give(city: ds.City, resident: ds.Resident, schema: ds.Schema, loss: Loss = ONE, **given) -> ds.Consent:
    consent = resident.grant(city.id, schema, purpose=PURPOSE, loss=loss, until="2030-01-01", **given)
    city.admit(consent, resident.contribute(consent))
    return consent


def ask(city: ds.City, query: ds.Query, loss: Loss = BIT) -> ds.Release:
    return city.release(query, loss=loss, purpose=PURPOSE)


def enrol_all(city: ds.City, people: dict[str, ds.Resident]) -> None:
    """ann consents to both domains jointly; bob to visits, cem to rides, dee to each of them apart."""
    give(city, people["ann"], VISITS, **BOTH)
    give(city, people["bob"], VISITS)
    give(city, people["cem"], RIDES)
    give(city, people["dee"], VISITS)
    give(city, people["dee"], RIDES)


def test_only_a_joint_consent_takes_part_in_a_question_over_two_domains(city, people, exact):
    enrol_all(city, people)
    for query, expected in [
        (RODE, [[1, 1]]),
        (ALL.keys("near").count(), [[1, 2]]),
        (ALL.bound(keys=3).keys("near", "ward").count().distinct(), [[0, 1, 1, 1], [0, 1, 1, 1]]),
        (ALL.where(~(ds.col("near") == True)).count(), [[1]]),  # noqa: E712
        (ALL.keys("ward").count(), [[3, 6]]),
        (ALL.count(), [[9]]),
        (ds.query(RIDES).keys("line").bound(rows=9, keys=2).count(), [[4, 0]]),
    ]:
        ask(city, query)
        assert exact[-1].tolist() == expected


def test_whether_anybody_consented_jointly_shows_nowhere(city, people, tmp_path, clock):
    """The same question where one did and where nobody did: same cells, same charge, same leaf but for the noise."""
    enrol_all(city, people)
    (tmp_path / "b").mkdir()
    with found_city(tmp_path / "b", clock) as other:
        for name in ("bob", "cem", "dee"):
            give(other, people[name], RIDES if name == "cem" else VISITS)
        answers, leaves = [], []
        for each in (city, other):
            answers.append(ask(each, RODE, RHO))
            (leaf,) = (x for x in map(decode_leaf, each.log.leaves()) if isinstance(x, ReleaseLeaf))
            leaves.append(leaf)
        assert city.remaining == other.remaining
    one, two = ({**a.document(), "city": "", "id": ""} for a in answers)
    assert one.keys() == two.keys()
    assert answers[0].frame().columns == answers[1].frame().columns
    assert answers[0].frame()["ward"].to_list() == answers[1].frame()["ward"].to_list()
    for name in ("purpose", "tables", "question", "mechanism", "loss", "trust", "epoch", "time", "programme", "status"):
        assert getattr(leaves[0], name) == getattr(leaves[1], name), name
    assert leaves[0].tables == (("visits", VISITS.digest, ("near", "ward")), ("rides", RIDES.digest, ("at",)))


def test_receipts_list_a_question_for_those_whose_consent_covers_both_domains(city, people):
    enrol_all(city, people)
    ask(city, RODE)
    ask(city, ALL.keys("ward").count())
    assert {n: len(r.receipts(city.log)) for n, r in people.items()} == {"ann": 2, "bob": 1, "cem": 0, "dee": 1}
    first = people["ann"].receipts(city.log)[0]
    first.verify(city.log.checkpoint())
    assert ("rides", RIDES.digest, ("at",)) in first.release.tables, "the receipt says that rides were used"


def test_a_joint_consent_is_charged_its_price_and_drops_out_when_it_is_spent(city, people, exact):
    price = ALL.bound(rows=1, keys=1).where(ds.col("near") == True).count()  # noqa: E712
    give(city, people["ann"], VISITS, loss=Loss(2 * 10**6), **BOTH)
    give(city, people["bob"], VISITS, loss=Loss(10**6))
    for rows in (1, 2, 3):
        ask(city, price.bound(rows=rows).where(ds.col("at") > f"2027-01-0{rows}"), Loss(10**6))
    found = [int(e[0, 0]) for e in exact]
    assert found[0] == 1, "ann pays at the worst case for one row of at most one"
    assert found[1] == 2, "and for two of at most two"
    assert found[2] == 0, "then hers is spent, and nothing says so"
    ask(city, ALL.bound(rows=1, keys=1).count(), Loss(10**6))
    assert exact[-1].tolist() == [[1]], "bob's consent, which does not cover rides, was charged nothing"


def test_revoking_the_joint_consent_ends_both_and_a_plain_one_takes_its_place(city, people, exact, clock):
    joint = give(city, people["ann"], VISITS, **BOTH)
    ask(city, RODE)
    city.revoke(people["ann"].revoke(joint))
    ask(city, RODE.bound(rows=8))
    assert [e.sum() for e in exact] == [2, 0]
    clock.now += 1
    plain = give(city, people["ann"], VISITS)
    clock.now += 1
    assert plain.claims.issuer == joint.claims.issuer
    ask(city, RODE.bound(rows=7))
    ask(city, ALL.count())
    assert [e.sum() for e in exact[2:]] == [0, 3]


def test_the_newest_consent_decides_also_where_it_covers_less(city, people, exact, clock):
    give(city, people["ann"], VISITS, **BOTH)
    clock.now += 1
    give(city, people["ann"], VISITS)
    clock.now += 1
    ask(city, RODE)
    assert exact[-1].sum() == 0


def test_rows_of_the_other_table_count_from_the_next_contribution_on(city, people, exact):
    ann = people["ann"]
    consent = give(city, ann, VISITS, **BOTH)
    ann.put(RIDES, [{"at": BASE + dt.timedelta(days=1), "line": "U2"}])
    ask(city, RODE)
    assert exact[-1].tolist() == [[1, 1]]
    city.admit(consent, ann.contribute(consent))
    ask(city, RODE.bound(rows=8))
    assert exact[-1].tolist() == [[1, 2]]


def test_what_travels_is_one_truth_value_a_row_and_nothing_of_the_other_table(city, people):
    ann = people["ann"]
    consent = ann.grant(
        city.id, VISITS, purpose=PURPOSE, loss=RHO, until="2030-01-01", columns=["ward", "near"], reads=[RIDES],
        join={PEOPLE: ["age"]},
    )  # fmt: skip
    sealed = ann.contribute(consent)
    sent = messages.open_contribution(sealed, city._who.opening, city.id, consent)
    assert [name for name, _ in sent.profiles] == ["people"]
    found = admit(
        consent.token, sealed, city=city.id, key=city._who.opening, purposes=[PURPOSE], trusts=["central"], now=NOW,
            place="JP",
    )  # fmt: skip
    assert found.rows.to_dict(as_series=False) == {"ward": [0, 1, 1], "near": [1, 0, 1]}
    assert found.profiles["people"].to_dict(as_series=False) == {"age": [30]}
    assert [s.name for s in found.schemas] == ["visits", "people"]
    assert [(c.table, c.columns) for c in consent.claims.coverage] == [
        ("visits", ("ward", "near")), ("people", ("age",)), ("rides", ("at",)),
    ]  # fmt: skip


def test_keys_of_the_two_domains_stay_unlinkable(city, people):
    joint = give(city, people["ann"], VISITS, **BOTH)
    rides = give(city, people["ann"], RIDES)
    assert joint.claims.issuer != rides.claims.issuer


def test_a_derived_column_of_a_joined_table_needs_its_source_too(city, people, exact):
    query = ALL.join(PEOPLE).keys("people.rides").count()
    give(city, people["ann"], VISITS, join={PEOPLE: ["rides"]}, reads=[RIDES])
    give(city, people["bob"], VISITS, join={PEOPLE: ["age"]})
    give(city, people["dee"], VISITS, join={PEOPLE: ["age", "rides"]}, reads=[RIDES])
    ask(city, query)
    assert exact[-1].tolist() == [[0, 6, 0]]
    own = ds.query(RIDES).join(PEOPLE).bound(rows=9).where(ds.col("people.rides") == True).count()  # noqa: E712
    give(city, people["ann"], RIDES, join={PEOPLE: ["rides"]}, columns=["at", "line"])
    ask(city, own)
    assert exact[-1].tolist() == [[2]], "the table that it reads is the question's own"


def test_a_vault_without_the_other_table_contributes_false(city, tmp_path, clock, exact):
    with ds.Resident.create(tmp_path / "eve", device_key=KEY, clock=clock) as eve:
        eve.put(VISITS, [{"at": BASE, "ward": "A"}])
        give(city, eve, VISITS, **BOTH)
        ask(city, ALL.keys("near").count())
        assert exact[-1].tolist() == [[1, 0]]


def test_the_lifetime_account_holds_the_joint_consent_beside_that_of_the_other_table(city, people):
    ann = people["ann"]
    give(city, ann, VISITS, loss=RHO)
    give(city, ann, VISITS, loss=RHO, **BOTH)
    assert ann.granted == RHO, "the same table and purpose: one account"
    give(city, ann, RIDES, loss=RHO)
    assert ann.granted == RHO + RHO, "what rides may cost: their own account, and the joint one"


def test_a_consent_says_by_name_what_is_read(city, people):
    with pytest.raises(ConsentError, match="reads="):
        give(city, people["ann"], VISITS, columns=["near"])
    assert people["ann"].consents == []
    assert give(city, people["ann"], VISITS).claims.coverage[0].columns == ("at", "ward")
