"""Where consents, delegations, the registry and the log meet: what one of them leaves to another, somebody tries."""

from __future__ import annotations

from dataclasses import replace

import pytest

import datasov as ds
from datasov.authority import token
from datasov.delegating import keeping
from datasov.errors import ConsentError, ProofError
from datasov.kernel import monitor
from datasov.model.consent import Claims
from tests.helpers import (
    COUNT,
    NOW,
    PURPOSE,
    RHO,
    TRIPS,
    consent_for,
    contribution,
    found_city,
    instant,
    revocation,
    values,
)

DAY = 86_400
ROWS = [{"district": "N", "km": 1}]
VISITS = ds.Schema("visits", domain="health", columns={
    "day": ds.Integer(0, 366), "reason": ds.Category("abc", legal="special"),
})  # fmt: skip
UNTIL, MAJORITY = NOW + 300 * DAY, NOW + 200 * DAY


def given(person: ds.Resident, other: ds.Resident, city: ds.City, tables=TRIPS, **changed) -> bytes:
    domain = (tables if isinstance(tables, ds.Schema) else next(iter(tables))).domain
    return person.delegate(city.id, tables, **{
        "to": other.delegate_key(city.id, domain), "kind": "guardian", "purposes": [PURPOSE], "loss": RHO,
        "until": instant(UNTIL), **changed,
    })  # fmt: skip


def resigned(signer: ds.Resident, city: ds.City, consent: ds.Consent, **changed) -> ds.Consent:
    """What a delegate signs who does not use this library's own checks."""
    claims: Claims = replace(consent.claims, token_id=b"forged" + bytes(10), **changed)
    schema = VISITS if claims.coverage[0].table == "visits" else TRIPS
    key = keeping.delegate_key(signer._vault, schema.domain, city.id, "")
    return replace(token.issue(claims, key), chain=consent.chain)


# --- what refusals say


def refusal(city: ds.City, consent: ds.Consent, sealed: bytes) -> str:
    with pytest.raises(ConsentError) as why:
        city.admit(consent, sealed)
    return str(why.value)


@pytest.mark.parametrize("world", ["live", "revoked", "renewed"])
def test_who_relays_a_contribution_and_sends_it_again_does_not_learn_what_became_of_it(city, world):
    consent = consent_for(city, TRIPS, "ann")
    sealed = contribution(city, consent, "ann", 1, TRIPS, ROWS)
    city.admit(consent, sealed)
    if world == "revoked":
        city.revoke(revocation(consent, "ann"))
    if world == "renewed":
        newer = consent_for(city, TRIPS, "ann", issued=NOW - 50)
        city.admit(newer, contribution(city, newer, "ann", 2, TRIPS, ROWS))
    assert refusal(city, consent, sealed) == (
        "the contribution was admitted already, or a newer one was: contribute again"
    )


def test_who_relays_a_revocation_and_sends_it_again_does_not_learn_whether_the_consent_had_come(tmp_path, clock):
    said = set()
    for came in (True, False):
        (folder := tmp_path / str(came)).mkdir()
        with found_city(folder, clock) as city:
            consent = consent_for(city, TRIPS, "ann")
            if came:
                city.admit(consent, contribution(city, consent, "ann", 1, TRIPS, ROWS))
            city.revoke(revocation(consent, "ann"))
            with pytest.raises(ConsentError) as why:
                city.revoke(revocation(consent, "ann"))
            said.add(str(why.value))
    assert len(said) == 1


# --- what a delegate can do to the account


def test_a_delegate_does_not_date_a_consent_so_that_the_person_cannot_renew_it(city, people, clock):
    """All that is newer must be dated later: a date years ahead would bar the person's own key until then."""
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    honest = guardian.grant_for(given(adult, guardian, city), TRIPS, purpose=PURPOSE, loss=RHO)
    for times in ({"issued": UNTIL - 1, "not_before": UNTIL - 1}, {"not_before": UNTIL - 1}):
        with pytest.raises(ConsentError, match="later than today"):
            adult.accept(resigned(guardian, city, honest, **times))
    assert adult.accept(honest) == honest
    assert adult.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01").claims.not_before <= clock.now


def test_a_delegate_names_the_special_columns_to_the_person_too(city, people):
    """Before the person's vault reserves a loss for a consent that no city takes, and whose record says "none"."""
    adult, guardian = people("adult"), people("guardian")
    adult.put(VISITS, [{"day": 1, "reason": "a"}])
    chain = given(adult, guardian, city, {VISITS: ["day"]}, special=["reason"])
    honest = guardian.grant_for(chain, VISITS, columns=["day"], special=["reason"], purpose=PURPOSE, loss=RHO)
    with pytest.raises(ConsentError, match="special class"):
        adult.accept(resigned(guardian, city, honest, special=(), record=b""))
    assert adult.granted == ds.Loss(0)
    adult.accept(honest)


def test_a_hand_over_binds_what_the_persons_other_device_gave(city, people, tmp_path, clock):
    child, parent = people("child"), people("parent")
    child.put(TRIPS, ROWS)
    child.enrol(tmp_path / "tablet.vault", device_key=bytes(range(32)))
    given(child, parent, city, kind="parental", until=instant(NOW + DAY), handover=instant(MAJORITY))
    with ds.Resident.open(tmp_path / "tablet.vault", device_key=bytes(range(32)), clock=clock) as tablet:
        beyond = given(tablet, parent, city)
    child.merge(tmp_path / "tablet.vault", device_key=bytes(range(32)))
    consent = parent.grant_for(beyond, TRIPS, purpose=PURPOSE, loss=RHO)
    with pytest.raises(ConsentError, match="hand-over"):
        child.accept(consent)
    child.accept(parent.grant_for(beyond, TRIPS, purpose=PURPOSE, loss=RHO, until=instant(MAJORITY)))


# --- a city that changed its keys


@pytest.fixture
def rows_counted(monkeypatch):
    """How many rows the last question added up before noise."""
    seen, real = [0], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(int(values(t).sum())), real(t, p, r))[1])
    return lambda: seen[-1]


def test_nobody_is_two_residents_of_a_city_that_changed_its_keys(tmp_path, people, clock, rows_counted):
    """Under a second key a resident would be in one question twice, at four times the loss that it says."""
    ann, guardian = people("ann"), people("guardian")
    ann.put(TRIPS, ROWS)
    first = found_city(tmp_path, clock)
    before = ann.grant(first.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
    delegated = given(ann, guardian, first)
    first.admit(before, ann.contribute(before))
    ann.enrol(tmp_path / "tablet.vault", device_key=bytes(range(32)))
    first.rotate()
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        assert city.id != first.id
        ann.receipts(city.log)
        after = ann.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
        assert after.claims.account == before.claims.account
        city.admit(after, ann.contribute(after))
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        assert rows_counted() == len(ROWS)
        city.revoke(ann.revoke_delegation(delegated))
        given(ann, guardian, city)
        assert [d.claims.subject for d in ann.delegations] == [before.claims.account] * 2
        ann.close()
        with ds.Resident.open(tmp_path / "tablet.vault", device_key=bytes(range(32)), clock=clock) as tablet:
            tablet.merge(tmp_path / "ann.vault", device_key=bytes(32))
            newer = tablet.grant(city.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
            assert newer.claims.account == before.claims.account
            city.admit(newer, tablet.contribute(newer))
            city.revoke(tablet.revoke(newer))
        city.release(COUNT, loss=ds.zcdp(rho="0.02"), purpose=PURPOSE)
        assert rows_counted() == 0


def test_other_cities_and_strangers_to_the_old_one_have_keys_of_their_own(tmp_path, people, clock):
    ann, new = people("ann"), people("newcomer")
    for one in (ann, new):
        one.put(TRIPS, ROWS)
    first = found_city(tmp_path, clock)
    before = ann.grant(first.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
    first.admit(before, ann.contribute(before))
    first.rotate()
    (tmp_path / "b").mkdir()
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city, found_city(tmp_path / "b", clock) as other:
        late = {"purpose": PURPOSE, "loss": RHO, "until": "2030-01-01"}
        mine = new.grant(city.id, TRIPS, **late)
        new.receipts(city.log)
        ann.receipts(city.log)
        assert new.grant(city.id, TRIPS, **late).claims.account == mine.claims.account
        assert ann.grant(other.id, TRIPS, **late).claims.account != before.claims.account
        assert ann.grant(city.id, TRIPS, **late).claims.account == before.claims.account


def test_an_export_is_taken_in_though_the_city_changed_its_keys(tmp_path, people, clock):
    ann = people("ann")
    ann.put(TRIPS, ROWS)
    first = found_city(tmp_path, clock)
    consent = ann.grant(first.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
    first.admit(consent, ann.contribute(consent))
    first.rotate()
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        ann.receipts(city.log)
    ann.export(tmp_path / "out", form="json")
    assert people("new").import_(tmp_path / "out") == 1
    assert people("new").granted == RHO


def test_residents_compare_what_they_saw_after_the_city_changed_its_keys(tmp_path, people, clock):
    first = found_city(tmp_path, clock)
    for name in ("ann", "bob"):
        people(name).grant(first.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
    people("bob").receipts(first.log)
    (early,) = people("bob").checkpoints().values()
    first.rotate()
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city:
        people("ann").receipts(city.log)
        with pytest.raises(ProofError):
            people("ann").compare(early, city.log)  # of the key before: receipts follow it, this does not
        people("bob").receipts(city.log)
        (late,) = people("bob").checkpoints().values()
        assert people("ann").compare(late) is None
        city.release(COUNT, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE)
        people("bob").receipts(city.log)
        (later,) = people("bob").checkpoints().values()
        assert people("ann").compare(later, city.log) is None


# --- a column that becomes one of the special class


def test_a_column_that_became_special_travels_under_no_consent_that_does_not_say_so(city, people):
    ann, guardian = people("ann"), people("guardian")
    ordinary = ds.Schema("visits", domain="health", columns={"day": ds.Integer(0, 366), "reason": ds.Category("abc")})
    late = {"purpose": PURPOSE, "loss": RHO, "until": "2030-01-01"}
    ann.put(ordinary, [{"day": 1, "reason": "a"}])
    chain = given(ann, guardian, city, ordinary)
    narrow = {"columns": ["day"], **late}
    before = ann.grant(city.id, ordinary, **late)
    city.admit(before, ann.contribute(before))
    signed = guardian.grant_for(chain, ordinary, purpose=PURPOSE, loss=RHO)
    ann.evolve(VISITS)
    assert ann.scan(ordinary).height == 1, "it is still their own data"
    reserved = ann.granted
    for attempt in (
        lambda: ann.contribute(before),
        lambda: ann.grant(city.id, ordinary, **late),
        lambda: ann.accept(signed),
    ):
        with pytest.raises(ConsentError, match="by now"):
            attempt()
    assert ann.granted == reserved
    other = ann.grant(city.id, ordinary, **narrow)
    city.admit(other, ann.contribute(other))
    named = ann.grant(city.id, VISITS, special=["reason"], **late)
    city.admit(named, ann.contribute(named))


# --- strangers at the door


def test_revocations_of_what_never_came_leave_nothing_that_every_question_reads(city):
    admitted = consent_for(city, TRIPS, "ann")
    city.admit(admitted, contribution(city, admitted, "ann", 1, TRIPS, ROWS))
    for number in range(5):
        schema = ds.Schema("trips", domain="mobility", columns={"km": ds.Integer(0, number + 1)})
        city.revoke(revocation(consent_for(city, schema, number), number))
    assert len(city._registry.refresh()) == 1
