"""Residents who sign for one another: a parent until majority, a guardian, a carer; with vaults and a city."""

from __future__ import annotations

from dataclasses import replace

import pytest

import datasov as ds
from datasov.authority import delegation, held, token
from datasov.delegating import account_key, keeping
from datasov.errors import ConsentError, InvalidQueryError, VerificationError
from datasov.kernel import monitor
from tests.delegations import claims_under, link
from tests.helpers import COUNT, NOW, PEOPLE, PURPOSE, RHO, TRIPS, found_city, instant, values

DAY = 86_400
VISITS = ds.Schema("visits", domain="health", columns={
    "day": ds.Integer(0, 366), "reason": ds.Category("abc", legal="special"),
}, keys=[("reason",)])  # fmt: skip
FULL = [{"district": d, "km": 7} for d in "NE" for _ in range(5)]
"""So many rows that a question costs their resident its whole loss."""
ROWS = FULL[4:6]
UNTIL, MAJORITY = NOW + 100 * DAY, NOW + 200 * DAY


def delegate(person: ds.Resident, other: ds.Resident, city: ds.City, tables=TRIPS, **given):
    domain = (tables if isinstance(tables, ds.Schema) else next(iter(tables))).domain
    return person.delegate(city.id, tables, **{
        "to": other.delegate_key(city.id, domain), "kind": "guardian", "purposes": [PURPOSE], "loss": RHO,
        "until": instant(UNTIL), **given,
    })  # fmt: skip


def grant_for(signer: ds.Resident, chain, schema=TRIPS, **given) -> ds.Consent:
    return signer.grant_for(chain, schema, **{"purpose": PURPOSE, "loss": RHO, **given})


@pytest.fixture
def counted(lake, monkeypatch):
    """How many rows a question of this loss adds up, before any noise. Each call must be another question."""
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(int(values(t).sum())), real(t, p, r))[1])

    def ask(rho: object) -> int:
        before = len(seen)
        lake.release(COUNT, loss=ds.zcdp(rho=rho), purpose=PURPOSE)
        assert len(seen) == before + 1
        return seen[-1]

    return ask


@pytest.fixture
def lake(tmp_path, clock):
    with found_city(tmp_path, clock, budget=ds.zcdp(rho=1000)) as found:
        yield found


def test_a_parent_signs_until_majority_and_then_the_childs_own_key_on_the_same_account(lake, people, clock, counted):
    child, parent = people("child"), people("parent")
    child.put(TRIPS, FULL)
    loss = ds.zcdp(rho=150)
    given = delegate(
        child, parent, lake, kind="parental", loss=loss, until=instant(MAJORITY), handover=instant(MAJORITY)
    )
    consent = child.accept(grant_for(parent, given, loss=loss))
    own = child.grant(lake.id, TRIPS, purpose="x", loss=RHO, until="2030-01-01")
    assert consent.claims.account == own.claims.issuer
    assert consent.claims.issuer == parent.delegate_key(lake.id, "mobility") != consent.claims.account
    assert consent.claims.expires == MAJORITY
    lake.admit(consent, child.contribute(consent))
    assert counted(100) == 10
    (receipt,) = child.receipts(lake.log)
    receipt.verify(lake.log.checkpoint())
    assert parent.receipts(lake.log) == []
    assert child.granted == loss + RHO
    assert parent.granted == ds.Loss(0)
    clock.now = MAJORITY
    assert counted(100) == 0
    with pytest.raises(ConsentError, match="over"):
        grant_for(parent, given)
    own = child.grant(lake.id, TRIPS, purpose=PURPOSE, loss=loss, until=instant(MAJORITY + 10 * DAY))
    lake.admit(own, child.contribute(own))
    clock.now += DAY
    assert counted(100) == 0, "100 of 150 were spent under the parent's consent, and 100 more do not fit"
    more = child.grant(lake.id, TRIPS, purpose=PURPOSE, loss=ds.zcdp(rho=200), until=instant(MAJORITY + 10 * DAY))
    lake.admit(more, child.contribute(more))
    clock.now += DAY
    assert counted(100) == 10


def test_what_was_delegated_before_majority_ends_there_whatever_its_kind(lake, people, clock):
    child, parent = people("child"), people("parent")
    child.put(TRIPS, ROWS)
    with pytest.raises(ConsentError, match="majority"):
        delegate(child, parent, lake, kind="parental")
    with pytest.raises(ConsentError, match="out of order"):
        delegate(child, parent, lake, kind="parental", handover=instant(UNTIL - 1))
    delegate(child, parent, lake, kind="parental", handover=instant(MAJORITY))
    for kind in ("parental", "guardian"):
        with pytest.raises(ConsentError, match="hand-over"):
            delegate(child, parent, lake, kind=kind, handover=instant(MAJORITY + 1))
    delegate(child, parent, lake, kind="parental", handover=instant(MAJORITY - 1))
    with pytest.raises(ConsentError, match="hand-over"):
        delegate(child, parent, lake, kind="parental", handover=instant(MAJORITY))
    clock.now = MAJORITY
    grown = delegate(child, parent, lake, until=instant(MAJORITY + DAY))
    assert grant_for(parent, grown).claims.expires == MAJORITY + DAY


def test_a_guardian_passes_on_less_and_a_carer_touches_one_domain(lake, people):
    adult, guardian, carer = people("adult"), people("guardian"), people("carer")
    adult.put(TRIPS, ROWS)
    adult.put(VISITS, [{"day": 3, "reason": "a"}])
    given = delegate(adult, guardian, lake, {TRIPS: None, PEOPLE: ["age"]}, depth=1, loss=ds.zcdp(rho="0.3"))
    to = carer.delegate_key(lake.id, "mobility")
    chain = guardian.redelegate(given, to=to, tables={TRIPS: ["km"]}, loss=ds.zcdp(rho="0.2"))
    assert chain[0] == given
    assert len(chain) == 2
    narrowed = delegation.read(chain[1]).claims
    assert (narrowed.domains, narrowed.columns, narrowed.depth) == (("mobility",), ("trips.km",), 0)
    consent = adult.accept(grant_for(carer, chain, columns=["km"], loss=ds.zcdp(rho="0.2")))
    lake.admit(delegation.bundle(consent), adult.contribute(consent))
    with pytest.raises(ConsentError, match="columns"):
        grant_for(carer, chain)
    with pytest.raises(ConsentError, match="loss"):
        grant_for(carer, chain, columns=["km"], loss=ds.zcdp(rho="0.3"))
    with pytest.raises(ConsentError, match="depth"):
        carer.redelegate(chain, to=people("other").delegate_key(lake.id, "mobility"))
    for wider in (
        {"tables": VISITS}, {"purposes": ["marketing"]}, {"loss": ds.zcdp(rho=1)}, {"until": instant(UNTIL + 1)},
    ):  # fmt: skip
        with pytest.raises(ConsentError, match="beyond"):
            guardian.redelegate(given, to=to, **wider)
    with pytest.raises(ConsentError, match="one domain"):
        delegate(adult, carer, lake, [VISITS, TRIPS], kind="carer")
    care = delegate(adult, carer, lake, {VISITS: ["day"]}, kind="carer")
    with pytest.raises(ConsentError, match="columns"):
        grant_for(carer, care)
    with pytest.raises(ConsentError, match="special"):
        grant_for(carer, care, VISITS, columns=["day"], special=["reason"])
    seen = delegate(adult, carer, lake, {VISITS: ["day"]}, special=["reason"], kind="carer")
    assert grant_for(carer, seen, VISITS, columns=["reason"], special=["visits.reason"]).claims.special == (
        "visits.reason",
    )


def test_the_sum_under_a_delegation_is_capped_whoever_signs(lake, people, tmp_path):
    """Each of two delegates takes all that the delegation above them grants, for a purpose of its own."""
    (tmp_path / "two").mkdir()
    with found_city(tmp_path / "two", people("adult")._clock, purposes=["a", "b"]) as city:
        adult, guardian = people("adult"), people("guardian")
        adult.put(TRIPS, ROWS)
        given = delegate(adult, guardian, city, depth=1, purposes=["a", "b"])
        pairs = []
        for name in ("a", "b"):
            signer = people("delegate " + name)
            chain = guardian.redelegate(given, to=signer.delegate_key(city.id, "mobility"))
            pairs.append(grant_for(signer, chain, purpose=name))
        adult.accept(pairs[0])
        with pytest.raises(ConsentError, match="its loss"):
            adult.accept(pairs[1])
        adult._vault.set_state({held.CONSENTS: held.pack([])})
        adult.accept(pairs[1])
        adult._vault.set_state({held.CONSENTS: held.pack(
            [held.Record(c, bytes(32), "mobility") for c in pairs]
        )})  # fmt: skip
        sent = [(c, adult.contribute(c)) for c in pairs]
        first, second = city.admit_many(sent)
        assert first is None
        assert isinstance(second, ConsentError)
        assert "its loss" in str(second)
        city.admit(pairs[0], adult.contribute(pairs[0]))
        with pytest.raises(ConsentError, match="its loss"):
            city.admit(pairs[1], adult.contribute(pairs[1]))


def test_a_delegate_sees_its_own_sum_before_anybody_else(lake, people):
    adult, guardian = people("adult"), people("guardian")
    given = delegate(adult, guardian, lake, purposes=["a", "b"])
    grant_for(guardian, given, purpose="a")
    grant_for(guardian, given, purpose="a")
    with pytest.raises(ConsentError, match="its loss"):
        grant_for(guardian, given, purpose="b", loss=ds.zcdp(rho="1e-9"))


@pytest.mark.parametrize("who", ["delegate", "person"])
def test_a_delegated_consent_is_revoked_by_who_signed_it_and_by_whose_account_it_is(lake, people, counted, who):
    adult, guardian, stranger = people("adult"), people("guardian"), people("stranger")
    adult.put(TRIPS, ROWS)
    given = delegate(adult, guardian, lake, loss=ds.zcdp(rho=100))
    consent = adult.accept(grant_for(guardian, given, loss=ds.zcdp(rho=100)))
    lake.admit(consent, adult.contribute(consent))
    with pytest.raises(ConsentError):
        stranger.revoke(consent)
    signer, late = guardian if who == "delegate" else adult, adult.contribute(consent)
    lake.revoke(signer.revoke(consent))
    assert counted(10) == 0
    with pytest.raises(ConsentError, match="revoked"):
        lake.admit(consent, late)
    again = adult.accept(grant_for(guardian, given, loss=ds.zcdp(rho=100)))
    lake.admit(again, adult.contribute(again))


@pytest.mark.parametrize("who", ["person", "guardian"])
def test_a_revoked_delegation_ends_every_consent_under_it_and_bars_the_next(lake, people, clock, counted, who):
    adult, guardian, carer = people("adult"), people("guardian"), people("carer")
    adult.put(TRIPS, ROWS)
    given = delegate(adult, guardian, lake, depth=1, loss=ds.zcdp(rho=100))
    chain = guardian.redelegate(given, to=carer.delegate_key(lake.id, "mobility"))
    consent = adult.accept(grant_for(carer, chain, loss=ds.zcdp(rho=50)))
    lake.admit(consent, adult.contribute(consent))
    late = grant_for(carer, chain, loss=ds.zcdp(rho=50))
    signer, ended = (adult, given) if who == "person" else (guardian, chain)
    with pytest.raises(ConsentError, match="only whose"):
        carer.revoke_delegation(chain)
    notice = signer.revoke_delegation(ended)
    lake.revoke(notice)
    assert counted(10) == 0
    with pytest.raises(ConsentError, match="revoked"):
        lake.revoke(notice)
    if who == "person":
        assert adult.consents == []
        with pytest.raises(ConsentError, match="revoked"):
            adult.accept(late)
        with pytest.raises(ConsentError, match="revoked"):
            adult.contribute(consent)
    else:
        clock.now += 5
        fresh = adult.accept(grant_for(carer, chain, loss=ds.zcdp(rho=50)))
        with pytest.raises(ConsentError, match="delegation"):
            lake.admit(fresh, adult.contribute(fresh))
    assert next(d.revoked for d in signer.delegations if d.chain[-1] == (given if who == "person" else chain[-1]))


def test_a_delegation_revoked_before_its_consents_came_bars_them(lake, people):
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    given = delegate(adult, guardian, lake)
    consent = adult.accept(grant_for(guardian, given))
    sent = adult.contribute(consent)
    lake.revoke(adult.revoke_delegation(given))
    with pytest.raises(ConsentError, match="delegation"):
        lake.admit(consent, sent)


def test_the_sum_and_the_majority_hold_after_the_city_is_opened_again(tmp_path, people, clock):
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    with found_city(tmp_path, clock, purposes=["a", "b"]) as city:
        given = delegate(adult, guardian, city, purposes=["a", "b"], kind="parental", handover=instant(MAJORITY))
        one = adult.accept(grant_for(guardian, given, purpose="a"))
        city.admit(one, adult.contribute(one))
    two = people("guardian")._vault
    two.set_state({held.SIGNED: held.pack([])})
    with pytest.raises(ConsentError, match="its loss"):
        adult.accept(grant_for(guardian, given, purpose="b"))
    forged = grant_for(people("other"), _elsewhere(adult, people("other"), city, NOW + 300 * DAY), purpose="b")
    adult._vault.set_state({held.CONSENTS: held.pack([held.Record(forged, bytes(32), "mobility")])})
    with ds.City.open(tmp_path / "lake.city", clock=clock) as city, pytest.raises(ConsentError, match="hand-over"):
        city.admit(forged, adult.contribute(forged))


def _elsewhere(person: ds.Resident, to: ds.Resident, city: ds.City, until: int) -> bytes:
    """A delegation of a vault that forgot that there was a parental one."""
    person._vault.set_state({held.DELEGATIONS: None})
    return delegate(person, to, city, until=instant(until), purposes=["b"])


def test_accepting_checks_the_lifetime_account_and_whose_it_is(lake, people):
    adult, guardian, other = people("adult"), people("guardian"), people("other")
    given = delegate(adult, guardian, lake)
    consent = grant_for(guardian, given)
    with pytest.raises(ConsentError, match="put rows"):
        adult.accept(consent)
    for one in (adult, other):
        one.put(TRIPS, ROWS)
    with pytest.raises(ConsentError, match="somebody else"):
        other.accept(consent)
    adult.lifetime = ds.zcdp(rho="0.05")
    with pytest.raises(ConsentError, match="lifetime"):
        adult.accept(consent)
    assert adult.consents == []
    adult.lifetime = RHO
    assert adult.accept(delegation.bundle(consent)) == consent
    assert adult.accept(consent) == consent
    assert adult.consents == [consent]
    assert adult.granted == RHO
    with pytest.raises(ConsentError, match="lifetime"):
        adult.grant(lake.id, PEOPLE, purpose=PURPOSE, loss=ds.zcdp(rho="1e-9"), until="2030-01-01")
    own = adult.grant(lake.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01")
    assert own.claims.issued > consent.claims.issued
    with pytest.raises(ConsentError, match="newer"):
        adult.accept(grant_for(guardian, given))
    with pytest.raises(ConsentError, match="not accepted"):
        adult.accept(own)


def test_a_consent_on_a_table_of_another_domain_than_the_account_is_not_accepted(lake, people):
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    adult.put(VISITS, [{"day": 3, "reason": "a"}])
    given = delegate(adult, guardian, lake, [TRIPS, VISITS])
    with pytest.raises(ConsentError, match="another domain"):
        adult.accept(grant_for(guardian, given, VISITS))


def test_a_joint_consent_needs_every_domain_that_it_reads(lake, people):
    """A column of trips that tells of visits: a delegation for trips alone does not reach it."""
    adult, guardian = people("adult"), people("guardian")
    rides = ds.Schema("rides", domain="mobility", columns={
        "km": ds.Integer(0, 50), "ill": ds.Exists(VISITS, where=ds.col("day") == 3),
    })  # fmt: skip
    adult.put_all([(VISITS, [{"day": 3, "reason": "a"}]), (rides, [{"km": 7}])])
    joint = {"columns": ["km", "ill"], "reads": [VISITS]}
    with pytest.raises(ConsentError, match="columns"):
        grant_for(guardian, delegate(adult, guardian, lake, {rides: ["km", "ill"]}), rides, **joint)
    both = delegate(adult, guardian, lake, {rides: ["km", "ill"], VISITS: ["day"]})
    assert delegation.read(both).claims.domains == ("health", "mobility")
    consent = adult.accept(grant_for(guardian, both, rides, **joint))
    lake.admit(consent, adult.contribute(consent))
    with pytest.raises(ConsentError, match="one domain"):
        delegate(adult, guardian, lake, {rides: ["km", "ill"], VISITS: ["day"]}, kind="carer")


def test_a_consent_is_accepted_with_the_record_that_it_was_signed_with(lake, people):
    """The purpose has names in two languages, which stand in the record, and in the delegate's vault alone."""
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    bus = ds.Purpose(PURPOSE, within="dpv:ImproveTransportMobility", ja="バスの計画", en="Planning buses")
    given = delegate(adult, guardian, lake, purposes=[bus])
    consent = grant_for(guardian, given, purpose=bus)
    told = guardian.record(consent)
    assert "バスの計画" in told.text("ja")
    with pytest.raises(ConsentError, match="record"):
        adult.accept(consent)
    other = grant_for(guardian, given)
    with pytest.raises(VerificationError):
        adult.accept(consent, guardian.record(other))
    assert adult.accept(delegation.bundle(consent), told.data) == consent
    assert adult.record(consent) == told


def test_the_vault_looks_at_its_own_schemas_and_not_at_what_was_signed(lake, people):
    """A chain made by other software that calls a special column an ordinary one."""
    adult, guardian = people("adult"), people("guardian")
    adult.put(VISITS, [{"day": 3, "reason": "a"}])
    account = account_key(adult._vault, "health", lake.id)
    key = keeping.delegate_key(guardian._vault, "health", lake.id, "")
    quiet = {
        "audience": str(lake.id),
        "columns": ("visits.day", "visits.reason"),
        "special": (),
        "domains": ("health",),
    }
    root = link(delegator=account.public, subject=account.public, delegate=key.public, **quiet)
    given = delegation.issue(root, account)
    claims = claims_under(root, parent=given.digest)
    claims = replace(claims, coverage=(replace(claims.coverage[0], schema_digest=VISITS.digest),))
    consent = replace(token.issue(claims, key), chain=(given.token,))
    with pytest.raises(ConsentError, match="special class"):
        adult.accept(consent)


def test_given_and_received_are_listed_and_kept_and_stay_apart(lake, people, clock, tmp_path):
    adult, guardian = people("adult"), people("guardian")
    key = guardian.delegate_key(lake.id, "mobility", whom="aunt")
    assert key != guardian.delegate_key(lake.id, "mobility")
    given = delegate(adult, guardian, lake, to=key)
    (mine,) = adult.delegations
    assert (mine.chain, mine.given, mine.revoked, mine.claims.delegate) == ((given,), True, False, key)
    with pytest.raises(ConsentError, match="whom"):
        grant_for(guardian, given)
    guardian.receive(given, whom="aunt")
    consent = grant_for(guardian, given)
    guardian.close()
    with ds.Resident.open(tmp_path / "guardian.vault", device_key=bytes(32), clock=clock) as again:
        (theirs,) = again.delegations
        assert (theirs.chain, theirs.given, theirs.whom) == ((given,), False, "aunt")
        assert again.consents == []
        lake.revoke(again.revoke(consent))


def test_two_devices_bring_their_delegations_together(lake, people, tmp_path, clock):
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    adult.enrol(tmp_path / "phone.vault", device_key=bytes(31) + b"\x01")
    guardian.enrol(tmp_path / "their phone.vault", device_key=bytes(31) + b"\x01")
    with ds.Resident.open(tmp_path / "phone.vault", device_key=bytes(31) + b"\x01", clock=clock) as phone:
        first = delegate(adult, guardian, lake)
        second = delegate(phone, guardian, lake)
        consent = phone.accept(grant_for(guardian, second))
        ended = adult.accept(grant_for(guardian, first))
        phone.revoke_delegation(first)
    adult.merge(tmp_path / "phone.vault", device_key=bytes(31) + b"\x01")
    assert {d.chain[0]: d.revoked for d in adult.delegations} == {first: True, second: False}
    assert adult.consents == [consent]
    assert adult.consents[0].chain == (second,)
    with pytest.raises(ConsentError, match="revoked"):
        adult.contribute(ended)
    guardian.merge(tmp_path / "their phone.vault", device_key=bytes(31) + b"\x01")
    with ds.Resident.open(tmp_path / "their phone.vault", device_key=bytes(31) + b"\x01", clock=clock) as phone:
        guardian.close()
        phone.merge(tmp_path / "guardian.vault", device_key=bytes(32))
        assert {d.chain for d in phone.delegations} == {(second,), (first,)}
        lake.revoke(phone.revoke(consent))


def test_bad_arguments_are_refused_by_name(lake, people):
    adult, guardian = people("adult"), people("guardian")
    mine = adult.grant(lake.id, TRIPS, purpose=PURPOSE, loss=RHO, until="2030-01-01").claims.issuer
    for given, error in [
        ({"to": bytes(32)}, VerificationError), ({"to": b"short"}, VerificationError), ({"to": mine}, ConsentError),
        ({"kind": "friend"}, VerificationError), ({"purposes": []}, VerificationError),
        ({"special": ["km"]}, ConsentError),
        ({"purposes": [" x"]}, InvalidQueryError), ({"purposes": "bus"}, InvalidQueryError),
        ({"loss": ds.Loss(0)}, InvalidQueryError),
        ({"until": "soon"}, InvalidQueryError), ({"until": "2001-01-01"}, ConsentError),
        ({"depth": 4}, VerificationError), ({"jurisdiction": "the moon"}, VerificationError),
        ({"jurisdiction": "jp"}, ConsentError), ({"processing": "J"}, ConsentError),
    ]:  # fmt: skip
        with pytest.raises(error):
            delegate(adult, guardian, lake, **given)
    with pytest.raises(ConsentError, match="at least one table"):
        adult.delegate(lake.id, [], to=bytes(32), kind="guardian", purposes=["a"], loss=RHO, until="2030-01-01")
    assert adult.delegations == []


def test_an_export_carries_them_as_ones_that_are_over(lake, people, tmp_path, clock):
    adult, guardian = people("adult"), people("guardian")
    adult.put(TRIPS, ROWS)
    given = delegate(adult, guardian, lake)
    consent = adult.accept(grant_for(guardian, given))
    for name in ("adult", "guardian"):
        people(name).export(tmp_path / f"{name}.out", form="json")
        people("new " + name).import_(tmp_path / f"{name}.out")
        (held_,) = people("new " + name).delegations
        assert (held_.chain, held_.given, held_.revoked) == ((given,), name == "adult", True)
    assert people("new adult").granted == RHO
    assert people("new adult").consents == []
    assert people("new guardian").granted == ds.Loss(0)
    (record,) = held.unpack(people("new guardian")._vault.state(held.SIGNED))
    assert record.consent == consent
    assert record.revoked
    assert people("new guardian").record(consent).digest == consent.claims.record
    with pytest.raises(ConsentError, match="another vault"):
        people("new guardian").revoke(consent)
    with pytest.raises(ConsentError, match="was revoked"):
        grant_for(people("new guardian"), given)
