"""Where consents, delegations, the registry and the log meet: what one of them leaves to another, somebody tries."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

import datasov as ds
from datasov.authority import token
from datasov.delegating import keeping
from datasov.errors import ConsentError
from datasov.model.consent import Claims
from tests.helpers import NOW, PURPOSE, RHO, TRIPS, consent_for, contribution, found_city, revocation

DAY = 86_400
ROWS = [{"district": "N", "km": 1}]
VISITS = ds.Schema("visits", domain="health", columns={
    "day": ds.Integer(0, 366), "reason": ds.Category("abc", legal="special"),
})  # fmt: skip
UNTIL, MAJORITY = NOW + 300 * DAY, NOW + 200 * DAY


def instant(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@pytest.fixture
def people(tmp_path, clock):
    opened: dict[str, ds.Resident] = {}

    def resident(name: str) -> ds.Resident:
        if name not in opened:
            opened[name] = ds.Resident.create(tmp_path / f"{name}.vault", device_key=bytes(32), clock=clock)
        return opened[name]

    yield resident
    for one in opened.values():
        one.close()


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
