"""Claim: a delegate does what the person delegated, on that person's account, in that city, until it ends: no more.

Each attempt is refused by an error of its own, and changes nothing in the city.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import datasov as ds
from datasov.authority import delegation, messages, token
from datasov.authority.admission import admit, pack_table
from datasov.authority.coverage import coverage
from datasov.crypto.seal import seal
from datasov.errors import ConflictError, ConsentError, SignatureError, VerificationError
from datasov.kernel import monitor
from datasov.model import frames
from datasov.model.consent import Claims, Consent
from datasov.model.delegation import Delegation
from datasov.pool.draft import Draft
from datasov.wire import cbor, cose
from tests.delegations import KEYS, link, secret
from tests.delegations import signed as chained
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, consent_for, found_city, signed, values

ROWS = [{"district": "N", "km": 7}, {"district": "E", "km": 3}]
SUBJECT = ("link", 0)
_statuses = itertools.count(10**6)
VISITS = ds.Schema("visits", domain="health", columns={
    "district": ds.Category("NESW"), "reason": ds.Category("abc", legal="special"),
})  # fmt: skip


def root(city: ds.City, **changed: Any) -> Delegation:
    return link(**{
        "audience": str(city.id), "domains": ("mobility",), "columns": ("trips.district", "trips.km"), "special": (),
        "purposes": (PURPOSE,), "loss": RHO, **changed,
    })  # fmt: skip


def claims_under(last: Delegation, digest: bytes, schema: ds.Schema = TRIPS, **changed: Any) -> Claims:
    base = Claims(
        issuer=last.delegate, audience=last.audience, token_id=bytes(16), issued=last.issued,
        not_before=last.not_before, expires=last.expires, coverage=coverage(schema, None), purpose=last.purposes[0],
        trust=ds.central(), loss=last.loss, jurisdiction=last.jurisdiction, status=next(_statuses),
        subject=last.subject, parent=digest,
    )  # fmt: skip
    return replace(base, **changed)


def consent_of(links: Sequence[Delegation], schema: ds.Schema = TRIPS, **changed: Any) -> Consent:
    """What the last delegate signs, with its chain."""
    chain = chained(links)
    claims = claims_under(links[-1], delegation.read(chain[-1]).digest, schema, **changed)
    return replace(token.issue(claims, secret(claims.issuer)), chain=chain)


def rows_for(
    city: ds.City, consent: Consent, schema: ds.Schema = TRIPS, rows: frames.Rows = ROWS, who: object = SUBJECT,
    sequence: int = 1,
) -> bytes:  # fmt: skip
    codes = frames.encode(schema, rows).select(consent.claims.coverage[0].columns)
    return signed(city, consent, who, sequence, pack_table(schema, codes))


def refused(city: ds.City, consent: Any, sealed: bytes, error: type[Exception], says: str | None = None) -> None:
    city.tick()
    before = city._store.head()
    with pytest.raises(error, match=says):
        city.admit(consent, sealed)
    assert city._store.head() == before, "a refused consent changed something"


def ended(city: ds.City, what: Consent | delegation.Delegated, key, **changed: Any) -> bytes:
    """A notice that ends a consent or a delegation, by any key."""
    kind = messages.REVOCATION if isinstance(what, Consent) else messages.DELEGATION_REVOCATION
    body = messages.Revocation(changed.get("digest", what.digest), NOW, bytes(32))
    return messages.seal_revocation(messages.sign_revocation(body, key, changed.get("kind", kind)), what, city.id)


@pytest.fixture
def total(monkeypatch):
    """How many rows the next question adds up before noise."""
    seen, real = [], monitor.draw
    monkeypatch.setattr(monitor, "draw", lambda t, p, r: (seen.append(values(t).copy()), real(t, p, r))[1])

    def ask(city: ds.City, loss: ds.Loss) -> int:
        city.release(COUNT, loss=loss, purpose=PURPOSE)
        return int(np.sum(seen[-1]))

    return ask


def test_what_is_delegated_is_admitted(city, total):
    """The other tests change one thing of this."""
    consent = consent_of([root(city), link(root(city))])
    city.admit(consent, rows_for(city, consent))
    city.admit(delegation.bundle(consent), rows_for(city, consent, sequence=2))
    assert total(city, ds.zcdp(rho="0.01")) == 2


def test_a_delegate_does_not_sign_contributions(city):
    consent = consent_of([root(city)])
    refused(city, consent, rows_for(city, consent, who=("link", 1)), SignatureError)


def test_a_consent_and_its_chain_are_for_one_city(city, tmp_path, clock):
    (tmp_path / "b").mkdir()
    consent = consent_of([root(city)])
    with found_city(tmp_path / "b", clock) as other:
        refused(other, consent, rows_for(other, consent), ConsentError, "another city")
        moved = consent_of([root(city)], audience=str(other.id))
        refused(other, moved, rows_for(other, moved), ConsentError, "audience")


def test_a_chain_for_another_domain_reaches_nothing_here(city):
    health = root(city, domains=("health",), columns=("visits.district",))
    consent = consent_of([health])
    refused(city, consent, rows_for(city, consent), ConsentError, "columns")
    twin = ds.Schema("trips", domain="health", columns=dict(TRIPS.items))
    consent = consent_of([root(city)], twin)
    refused(city, consent, rows_for(city, consent, twin), ConsentError, "domain")
    other = root(city, subject=KEYS[6].public, delegator=KEYS[6].public)
    swapped = consent_of([other], subject=KEYS[0].public)
    refused(city, swapped, rows_for(city, swapped), ConsentError, "last delegate")


def test_a_special_column_is_reached_only_where_it_is_named(city):
    both = {"domains": ("health",), "columns": ("visits.district", "visits.reason")}
    rows = [{"district": "N", "reason": "a"}]
    covered = coverage(VISITS, ["district", "reason"])
    for special in ((), ("visits.reason",)):
        quiet = consent_of([root(city, **both)], VISITS, coverage=covered, special=special)
        refused(city, quiet, rows_for(city, quiet, VISITS, rows), ConsentError, "special")
    named = consent_of([root(city, **both, special=("visits.reason",))], VISITS, coverage=covered, special=special)
    city.admit(named, rows_for(city, named, VISITS, rows))


def test_a_key_is_not_a_delegate_of_itself(city):
    for made in (root(city, delegate=KEYS[0].public), link(root(city), delegate=KEYS[0].public)):
        with pytest.raises(ConsentError, match="somebody else"):
            delegation.issue(replace(made, parent=bytes(32) if made.depth == 2 else b""), secret(made.delegator))
    again = [root(city), link(root(city)), link(link(root(city)), delegate=KEYS[1].public)]
    consent = consent_of(again)
    refused(city, consent, rows_for(city, consent), ConsentError, "twice")


def test_a_stranger_does_not_begin_a_chain(city):
    """By signing a first delegation in the subject's name, or one that claims to have another above it."""
    forged = root(city, delegator=KEYS[5].public)
    with pytest.raises(ConsentError, match="signed by the subject"):
        chained([forged])
    claims = replace(forged, parent=bytes(32))
    lone = delegation.issue(claims, KEYS[5]).token
    consent = token.issue(claims_under(claims, delegation.read(lone).digest), KEYS[1])
    consent = replace(consent, chain=(lone,))
    refused(city, consent, rows_for(city, consent), ConsentError, "does not begin")
    honest = delegation.issue(root(city), KEYS[0]).token
    parts = cbor.decode(honest)
    payload = cbor.encode({**cbor.decode(parts[2]), 2: KEYS[5].public})
    consent = replace(consent, chain=(cbor.encode([*parts[:2], payload, parts[3]]),))
    refused(city, consent, rows_for(city, consent), SignatureError)


def test_a_chain_is_neither_left_out_nor_added(city):
    consent = consent_of([root(city)])
    refused(city, consent.token, rows_for(city, consent), ConsentError, "travels with its chain")
    refused(city, replace(consent, chain=()), rows_for(city, consent), ConsentError, "travels with its chain")
    own = token.issue(replace(consent.claims, issuer=KEYS[0].public, subject=b"", parent=b""), KEYS[0])
    refused(city, replace(own, chain=consent.chain), rows_for(city, own), ConsentError, "without a chain")
    for bad in (consent.chain * 5, (b"x",), (consent.token,), ("x",)):
        refused(city, replace(consent, chain=bad), rows_for(city, consent), (ConsentError, VerificationError))


def test_claims_beside_a_token_count_for_nothing(city):
    """A Consent value is data of whoever calls: only its bytes are believed."""
    consent = consent_of([root(city)], loss=ds.zcdp(rho=1))
    lying = replace(consent, claims=replace(consent.claims, loss=RHO))
    refused(city, lying, rows_for(city, consent), ConsentError, "loss")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_expired_link_ends_the_chain_also_in_its_middle(city, clock, at):
    links = [root(city), link(root(city)), link(link(root(city)))]
    ends = [NOW + 1000 if i >= at else d.expires for i, d in enumerate(links)]
    links = [replace(d, expires=e) for d, e in zip(links, ends, strict=True)]
    longer = consent_of(links, expires=NOW + 1001)
    refused(city, longer, rows_for(city, longer), ConsentError, "expires")
    clock.now = NOW + 1000
    late = consent_of(links)
    refused(city, late, rows_for(city, late), ConsentError, "expired|over")


def test_what_was_counted_stops_counting_when_a_link_ends(city, clock, total):
    links = [replace(root(city), expires=NOW + 1000, handover=NOW + 2000)]
    consent = consent_of(links)
    city.admit(consent, rows_for(city, consent))
    assert total(city, ds.zcdp(rho="0.01")) == 2
    clock.now = NOW + 1000
    assert total(city, ds.zcdp(rho="0.02")) == 0


def test_nothing_comes_back_after_a_revocation(city, total):
    links = [root(city), link(root(city))]
    consent = consent_of(links)
    first = rows_for(city, consent)
    city.admit(consent, first)
    middle = delegation.read(chained(links)[1])
    city.revoke(ended(city, middle, KEYS[1]))
    assert total(city, ds.zcdp(rho="0.01")) == 0
    refused(city, consent, first, ConsentError, "admitted already")
    refused(city, consent, rows_for(city, consent, sequence=2), ConsentError, "revoked")
    renewed = consent_of(links, issued=NOW, not_before=NOW)
    refused(city, renewed, rows_for(city, renewed, sequence=3), ConsentError, "delegation")
    others = [links[0], replace(links[1], token_id=bytes(15) + b"\x01")]
    allowed = consent_of(others, issued=NOW, not_before=NOW)
    city.admit(allowed, rows_for(city, allowed, sequence=4))
    city.revoke(ended(city, delegation.read(chained(links)[0]), KEYS[0]))
    assert total(city, ds.zcdp(rho="0.02")) == 0
    refused(city, allowed, rows_for(city, allowed, sequence=5), ConsentError, "revoked")
    under_it = consent_of(others, issued=NOW + 1, not_before=NOW + 1)
    refused(city, under_it, rows_for(city, under_it, sequence=6), ConsentError, "delegation that the consent needs")


def test_only_who_may_end_a_thing_ends_it(city, total):
    links = [root(city), link(root(city))]
    consent = consent_of(links)
    city.admit(consent, rows_for(city, consent))
    first, second = map(delegation.read, chained(links))
    for what, key in [
        (consent, KEYS[1]), (consent, KEYS[5]), (second, KEYS[2]), (second, KEYS[5]),
        (first, KEYS[1]), (first, KEYS[2]),
    ]:  # fmt: skip
        with pytest.raises(SignatureError):
            city.revoke(ended(city, what, key))
    with pytest.raises(SignatureError):
        city.revoke(ended(city, first, KEYS[0], kind=messages.REVOCATION))
    with pytest.raises(SignatureError):
        city.revoke(ended(city, consent, KEYS[0], kind=messages.DELEGATION_REVOCATION))
    with pytest.raises(ConsentError, match="another"):
        city.revoke(ended(city, second, KEYS[0], digest=first.digest))
    own = token.issue(replace(consent.claims, issuer=KEYS[0].public, subject=b"", parent=b""), KEYS[0])
    with pytest.raises(SignatureError):
        city.revoke(ended(city, own, KEYS[2]))
    body = messages.sign_revocation(messages.Revocation(consent.digest, NOW, bytes(32)), KEYS[0])
    for notice in ({1: 1, 2: consent.token, 3: body, 4: first.token}, {1: 1, 3: body}):
        sealed = seal(city.id.seal_key, cbor.encode(notice), messages._revocation_info(city.id))
        with pytest.raises(VerificationError):
            city.revoke(sealed)
    assert total(city, ds.zcdp(rho="0.01")) == 2
    city.revoke(ended(city, consent, KEYS[0]))
    assert total(city, ds.zcdp(rho="0.02")) == 0


def test_two_delegates_share_one_loss_also_when_both_come_at_once(city):
    """The second of two drafts that were begun together does not write; begun anew, it is refused."""

    def verified(consent: Consent, who: object = SUBJECT) -> Any:
        return admit(
            consent, rows_for(city, consent, who=who), city=city.id, key=city._who.opening, purposes=("a", PURPOSE),
            trusts=("central",), now=NOW, place=city.processing,
        )  # fmt: skip

    above = root(city, purposes=("a", PURPOSE))
    two_link = link(above, purposes=("a",), delegate=KEYS[3].public)
    one, two = consent_of([above, link(above, purposes=(PURPOSE,))]), consent_of([above, two_link])
    for purpose in ("a", PURPOSE):
        stranger = Draft(city._registry, city._store, city._pool, NOW)
        assert stranger.add(verified(consent_for(city, TRIPS, "stranger", purpose=purpose), "stranger"))
        stranger.write()
    drafts = [Draft(city._registry, city._store, city._pool, NOW) for _ in range(2)]
    for draft, consent in zip(drafts, (one, two), strict=True):
        assert draft.add(verified(consent))
    drafts[0].write()
    with pytest.raises(ConflictError):
        drafts[1].write()
    fresh = Draft(city._registry, city._store, city._pool, NOW)
    with pytest.raises(ConsentError, match="its loss"):
        fresh.add(verified(two))
    smaller = consent_of([above, two_link], loss=ds.zcdp(rho="1e-9"), token_id=b"\x01" * 16)
    with pytest.raises(ConsentError, match="its loss"):
        fresh.add(verified(smaller))
    with pytest.raises(ConflictError):
        drafts[1].add(verified(smaller))


def test_a_document_of_one_kind_is_not_one_of_another(city):
    consent = consent_of([root(city)])
    with pytest.raises(VerificationError):
        delegation.read(consent.token)
    with pytest.raises(VerificationError):
        token.read(consent.chain[0])
    payload = cose.peek1(consent.chain[0])
    for kind in (token.KIND, messages.CONTRIBUTION, messages.REVOCATION, "datasov delegation v2", ""):
        with pytest.raises(SignatureError):
            delegation.read(cose.sign1(payload, KEYS[0], kind))
