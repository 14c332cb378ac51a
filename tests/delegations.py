"""Chains of delegations that tests sign themselves, and what they allow, said a second time and naively."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from datasov.authority import delegation
from datasov.crypto.sign import SigningKey
from datasov.model.consent import Claims, Consent, Coverage
from datasov.model.delegation import Delegation
from datasov.model.privacy import Loss, central
from tests.helpers import CITY_ID, NOW, key_of

KEYS = [key_of(("link", i)) for i in range(8)]
"""KEYS[0] is the subject's, KEYS[i] that of the i-th delegate."""
DOMAINS = ("administration", "health", "mobility")
COLUMNS = ("people.age", "people.ward", "trips.district", "trips.km", "visits.day", "visits.reason")
PURPOSES = ("bus-planning", "clinics", "防災")
PLACES = ("JP", "JP-10", "JP-13", "NL")
END, MAJORITY = NOW + 10**7, NOW + 10**8


def link(above: Delegation | None = None, **changed: Any) -> Delegation:
    """A delegation of everything, or of all that the one above it grants."""
    if above is None:
        base = Delegation(
            delegator=KEYS[0].public, delegate=KEYS[1].public, subject=KEYS[0].public, token_id=bytes(16),
            kind="guardian", audience=str(CITY_ID), domains=DOMAINS, columns=COLUMNS, special=("visits.reason",),
            purposes=PURPOSES, loss=Loss(10**9, delta=10**9), jurisdiction="JP", processing="", issued=NOW - 1000,
            not_before=NOW - 1000, expires=END, handover=MAJORITY, depth=3,
        )  # fmt: skip
    else:
        after = KEYS[[k.public for k in KEYS].index(above.delegate) + 1]
        base = replace(above, delegator=above.delegate, delegate=after.public, depth=above.depth - 1)
    return replace(base, **changed)


def secret(public: bytes) -> SigningKey:
    return next(k for k in KEYS if k.public == public)


def signed(links: Sequence[Delegation]) -> tuple[bytes, ...]:
    """The tokens of a chain; each names the one before it."""
    tokens: list[bytes] = []
    parent = b""
    for one in links:
        issued = delegation.issue(replace(one, parent=parent), secret(one.delegator))
        tokens.append(issued.token)
        parent = issued.digest
    return tuple(tokens)


def claims_under(last: Delegation, **changed: Any) -> Claims:
    """The claims of a consent to all that a delegation grants, but for its parent."""
    tables: dict[str, list[str]] = {}
    for column in last.columns:
        table, _, name = column.partition(".")
        tables.setdefault(table, []).append(name)
    base = Claims(
        issuer=last.delegate, audience=last.audience, token_id=bytes(16), issued=last.issued,
        not_before=last.not_before, expires=last.expires,
        coverage=tuple(Coverage(t, bytes(32), tuple(names)) for t, names in tables.items()),
        purpose=last.purposes[0], trust=central(), loss=last.loss, jurisdiction=last.jurisdiction, status=0,
        processing=last.processing, special=last.special, subject=last.subject,
    )  # fmt: skip
    return replace(base, **changed)


def consent_under(chain: Sequence[bytes], claims: Claims) -> Consent:
    """A consent that names the chain's last delegation. Its signature is no matter here."""
    parent = delegation.read(chain[-1]).digest
    return Consent(b"", replace(claims, parent=parent), bytes(32), tuple(chain))


@dataclass(frozen=True)
class Chain:
    """Links, the consent's claims under them, and the time of asking."""

    links: tuple[Delegation, ...]
    claims: Claims
    now: int

    def verify(self) -> None:
        tokens = signed(self.links)
        delegation.verify_chain(tokens, consent_under(tokens, self.claims), self.now)


def _some(draw: random.Random, values: Sequence[str], least: int = 1) -> tuple[str, ...]:
    return tuple(sorted(draw.sample(values, draw.randint(min(least, len(values)), len(values)))))


def _inside(place: str) -> list[str]:
    return [p for p in PLACES if p == place or p[:2] == place]


def _places(draw: random.Random, above: Delegation) -> tuple[str, str]:
    """A jurisdiction and a place of processing that lie within those above."""
    place, inner = draw.choice(_inside(above.jurisdiction)), _inside(above.processing or above.jurisdiction)
    return place, draw.choice(["", *inner] if place in inner else inner)


def _chain(seed: int, least: int) -> Chain:
    draw = random.Random(seed)
    length = draw.randint(least, 4)
    links: list[Delegation] = []
    above = link()
    for number in range(length):
        columns = _some(draw, above.columns)
        start, end = draw.randint(above.not_before, NOW), draw.randint(NOW + 1, above.expires)
        place, processing = _places(draw, above)
        above = replace(
            above,
            delegator=KEYS[number].public, delegate=KEYS[number + 1].public, token_id=draw.randbytes(16),
            domains=_some(draw, above.domains), columns=columns,
            special=_some(draw, [c for c in above.special if c in columns], 0), purposes=_some(draw, above.purposes),
            loss=Loss(draw.randint(1, above.loss.nano), delta=draw.randint(0, above.loss.delta)),
            jurisdiction=place, processing=processing, issued=draw.randint(above.issued, start), not_before=start,
            expires=end, handover=draw.randint(end, above.handover),
            depth=draw.randint(length - 1 - number, above.depth - (number > 0)),
        )  # fmt: skip
        links.append(above)
    columns = _some(draw, above.columns)
    place, processing = _places(draw, above)
    narrowed = replace(
        above, columns=columns, special=_some(draw, [c for c in above.special if c in columns], 0), jurisdiction=place,
        processing=processing, loss=Loss(draw.randint(1, above.loss.nano), delta=draw.randint(0, above.loss.delta)),
        purposes=(draw.choice(above.purposes),), expires=draw.randint(NOW + 1, above.expires),
    )  # fmt: skip
    return Chain(tuple(links), claims_under(narrowed), NOW)


def chains(least: int = 1) -> st.SearchStrategy[Chain]:
    """Any chain that stands, of 1 to 4 links, with a consent that it allows. Drawn from a seed, which is fast."""
    return st.integers(0, 2**64 - 1).map(lambda seed: _chain(seed, least))


def allowed(chain: Chain) -> bool:
    """Whether a chain allows its consent: every link and every one above it compared, entry by entry."""
    rungs = [_plain(d) for d in chain.links]
    c = chain.claims
    last = chain.links[-1]
    rungs.append({
        "who": (c.subject, c.audience), "columns": [f"{t.table}.{n}" for t in c.coverage for n in t.columns],
        "special": list(c.special), "purposes": [c.purpose], "measure": c.loss.measure,
        "most": [c.loss.nano, c.loss.delta, c.expires], "least": [c.issued, c.not_before],
        "places": [c.jurisdiction, c.processing if c.processing else c.jurisdiction],
    })  # fmt: skip
    for i, low in enumerate(rungs):
        for high in rungs[:i]:
            if low["who"] != high["who"] or low["measure"] != high["measure"]:
                return False
            for name in ("columns", "special", "purposes", "domains"):
                for entry in low.get(name, []):
                    if entry not in high[name]:
                        return False
            if any(a > b for a, b in zip(low["most"], high["most"], strict=False)):
                return False
            if any(a < b for a, b in zip(low["least"], high["least"], strict=True)):
                return False
            for place, whole in zip(low["places"], high["places"], strict=True):
                if place.split("-")[: len(whole.split("-"))] != whole.split("-"):
                    return False
            if "depth" in low and low["depth"] >= high["depth"]:
                return False
            if "kind" in low and low["kind"] != high["kind"]:
                return False
    signers = [chain.links[0].subject, *(d.delegate for d in chain.links)]
    passed_on = all(d.delegator == who for d, who in zip(chain.links, signers, strict=False))
    over = any(chain.now >= d.expires or chain.now >= d.handover for d in chain.links)
    return passed_on and c.issuer == last.delegate and not over and len(set(signers)) == len(signers) <= 5


def _plain(d: Delegation) -> dict[str, Any]:
    return {
        "who": (d.subject, d.audience), "columns": list(d.columns), "special": list(d.special),
        "purposes": list(d.purposes), "domains": list(d.domains), "measure": d.loss.measure, "kind": d.kind,
        "most": [d.loss.nano, d.loss.delta, d.expires, d.handover], "least": [d.issued, d.not_before],
        "places": [d.jurisdiction, d.processing if d.processing else d.jurisdiction], "depth": d.depth,
    }  # fmt: skip
