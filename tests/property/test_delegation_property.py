"""Chains of delegations: every one that narrows is accepted, and every widening of any field at any link is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasov.authority import delegation
from datasov.errors import ConsentError, VerificationError
from datasov.model.delegation import Delegation
from datasov.model.privacy import Loss
from tests.delegations import COLUMNS, DOMAINS, KEYS, PLACES, PURPOSES, Chain, allowed, chains, consent_under, signed
from tests.helpers import CITY_ID, NOW, key_of

REFUSED = (ConsentError, VerificationError)
MIXED = (
    "domains", "purposes", "loss", "jurisdiction", "processing", "issued", "not_before", "expires", "handover", "depth",
)  # fmt: skip
ELSEWHERE = str(replace(CITY_ID, verify_key=key_of("another city").public))


def beyond(values: tuple[str, ...], universe: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [tuple(sorted({*values, extra})) for extra in universe if extra not in values]


def widened(one: Delegation, above: Delegation) -> dict[str, list[Delegation]]:
    """The link with one field beyond what the one above grants, and all else as it was; by field."""
    every: dict[str, list[Delegation]] = {
        "kind": [replace(one, kind=k, domains=one.domains[:1]) for k in ("parental", "carer")],
        "subject": [replace(one, subject=KEYS[7].public)],
        "audience": [replace(one, audience=ELSEWHERE)],
        "delegator": [replace(one, delegator=KEYS[6].public)],
        "domains": [replace(one, domains=d) for d in beyond(above.domains, (*DOMAINS, "work"))],
        "columns": [replace(one, columns=tuple(sorted({*one.columns, extra})))
                    for extra in (*COLUMNS, "trips.hour") if extra not in above.columns],
        "special": [replace(one, columns=above.columns, special=tuple(sorted({*one.special, extra})))
                    for extra in above.columns if extra not in above.special],
        "purposes": [replace(one, purposes=p) for p in beyond(above.purposes, (*PURPOSES, "marketing"))],
        "loss": [
            replace(one, loss=Loss(above.loss.nano + 1)), replace(one, loss=Loss(1, delta=above.loss.delta + 1)),
            replace(one, loss=Loss(1, "pure")),
        ],
        "jurisdiction": [replace(one, jurisdiction=p, processing=above.processing or above.jurisdiction)
                         for p in PLACES if p[: len(above.jurisdiction)] != above.jurisdiction],
        "processing": [replace(one, processing=p)
                       for p in PLACES if p[: len(w := above.processing or above.jurisdiction)] != w],
        "issued": [replace(one, issued=above.issued - 1)],
        "not_before": [replace(one, issued=above.issued, not_before=above.not_before - 1)],
        "expires": [replace(one, expires=above.expires + 1, handover=above.handover)],
        "handover": [replace(one, handover=above.handover + 1)],
        "depth": [replace(one, depth=d) for d in range(above.depth, 4)],
    }  # fmt: skip
    return every


@given(chains())
def test_every_chain_that_narrows_is_accepted(chain):
    assert allowed(chain)
    chain.verify()


@settings(max_examples=300)
@given(chains(least=2), st.data())
def test_every_widening_of_any_field_at_any_link_is_refused(chain, data):
    at = data.draw(st.integers(1, len(chain.links) - 1))
    one, above = chain.links[at], chain.links[at - 1]
    every = {name: options for name, options in widened(one, above).items() if options}
    field = data.draw(st.sampled_from(sorted(every)))
    wide = data.draw(st.sampled_from(every[field]))
    assume(field != "not_before" or above.issued < above.not_before)
    assume(field != "expires" or above.expires < above.handover)
    changed = Chain((*chain.links[:at], wide, *chain.links[at + 1 :]), chain.claims, chain.now)
    assert not allowed(changed)
    with pytest.raises(REFUSED):
        changed.verify()


@settings(max_examples=200)
@given(chains(), st.data())
def test_every_consent_beyond_its_chain_is_refused(chain, data):
    last, claims = chain.links[-1], chain.claims
    base = claims.coverage[0]
    missing = [c for c in (*COLUMNS, "trips.hour") if c not in last.columns]
    table, _, name = data.draw(st.sampled_from(missing)).partition(".")
    wide = data.draw(st.sampled_from([
        replace(claims, issuer=KEYS[7].public),
        replace(claims, issuer=claims.subject),
        replace(claims, subject=KEYS[7].public),
        replace(claims, audience=ELSEWHERE),
        replace(claims, coverage=(*claims.coverage, replace(base, table=table, columns=(name,)))),
        replace(claims, special=(*claims.special, "visits.day")),
        *(replace(claims, purpose=p) for p in (*PURPOSES, "marketing") if p not in last.purposes),
        replace(claims, loss=Loss(last.loss.nano + 1)), replace(claims, loss=Loss(1, delta=last.loss.delta + 1)),
        replace(claims, loss=Loss(1, "pure")),
        replace(claims, jurisdiction="GB", processing=last.processing or last.jurisdiction),
        replace(claims, processing="GB"),
        replace(claims, issued=last.issued - 1), replace(claims, not_before=last.not_before - 1),
        replace(claims, expires=last.expires + 1),
    ]))  # fmt: skip
    changed = replace(chain, claims=wide)
    assert not allowed(changed)
    with pytest.raises(REFUSED):
        changed.verify()


@settings(max_examples=200)
@given(chains(), chains(), st.data())
def test_a_second_naive_reading_agrees_on_chains_that_mix_two(one, two, data):
    """Fields of another chain put into a link: some narrow still, some do not."""
    at = data.draw(st.integers(0, len(one.links) - 1))
    other = two.links[min(at, len(two.links) - 1)]
    names = data.draw(st.sets(st.sampled_from(MIXED)))
    mixed = replace(one.links[at], **{name: getattr(other, name) for name in names})
    assume(mixed.issued <= mixed.not_before < mixed.expires <= mixed.handover)
    changed = replace(one, links=(*one.links[:at], mixed, *one.links[at + 1 :]))
    if allowed(changed):
        changed.verify()
    else:
        with pytest.raises(REFUSED):
            changed.verify()


@given(chains(), st.data())
def test_a_chain_in_another_order_cut_or_spliced_is_refused(chain, data):
    tokens = signed(chain.links)
    consent = consent_under(tokens, chain.claims)
    others = signed([replace(d, token_id=bytes(15) + b"\x01") if i == 0 else d for i, d in enumerate(chain.links)])
    broken = [tokens[:i] + tokens[i + 1 :] for i in range(len(tokens))]
    broken += [tuple(data.draw(st.permutations(tokens))), tokens + tokens[-1:], tokens[:1] + tokens, ()]
    if others[0] != tokens[0]:
        broken += [tokens[:i] + others[i:] for i in range(len(tokens))]
        broken += [others[:i] + tokens[i:] for i in range(1, len(tokens) + 1)]
    for wrong in broken:
        if wrong != tokens:
            with pytest.raises(REFUSED):
                delegation.verify_chain(wrong, consent, NOW)


@given(chains(), st.data())
def test_a_chain_with_one_expired_link_is_over(chain, data):
    tokens = signed(chain.links)
    consent = consent_under(tokens, chain.claims)
    first = min(d.expires for d in chain.links)
    delegation.verify_chain(tokens, consent, data.draw(st.integers(0, first - 1)))
    with pytest.raises(ConsentError, match="over"):
        delegation.verify_chain(tokens, consent, data.draw(st.integers(first, first + 10**9)))


@given(chains(least=2), st.data())
def test_a_key_that_comes_back_is_a_cycle(chain, data):
    at = data.draw(st.integers(1, len(chain.links) - 1))
    back = data.draw(st.sampled_from([d.delegate for d in chain.links[: at - 1]] or [chain.links[0].subject]))
    links = list(chain.links)
    links[at] = replace(links[at], delegate=back)
    if at + 1 < len(links):
        links[at + 1] = replace(links[at + 1], delegator=back)
    claims = replace(chain.claims, issuer=links[-1].delegate)
    with pytest.raises(REFUSED):
        Chain(tuple(links), claims, chain.now).verify()


@given(chains(), st.data())
def test_every_changed_byte_of_a_delegation_is_refused(chain, data):
    raw = data.draw(st.sampled_from(signed(chain.links)))
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    with pytest.raises(REFUSED):
        delegation.read(changed)


@given(chains())
def test_what_is_issued_is_read(chain):
    for token in signed(chain.links):
        found = delegation.read(token)
        assert found == delegation.issue(found.claims, next(k for k in KEYS if k.public == found.claims.delegator))
