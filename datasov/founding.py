"""Founding a city: what is fixed on its first day."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasov.authority.issuing import issuer_key
from datasov.crypto.kdf import random
from datasov.errors import InvalidQueryError
from datasov.kernel.ledger import Ledger
from datasov.model.consent import CityId, check_place
from datasov.model.document import canonical
from datasov.model.mynumber import check_text
from datasov.model.privacy import Loss, Trust, check_loss, enrolled
from datasov.model.purposes import Purpose, declared
from datasov.pool.sealed import issuing_key, seal_blob
from datasov.store import place
from datasov.store.settings import VERSION
from datasov.store.stores import Store
from datasov.tlog.note import origin_of

DEFAULT_PLACE = "JP"
"""Where a city processes that does not say so."""
ISSUER = b"datasov city issuer key v1"
"""How the key under which a city issues enrolment tokens follows from its issuer's secret."""


def found(
    path: Path, operator_key: bytes | None, budget: Loss | None, allowance: Loss | None, period: int,
    purposes: Sequence[str | Purpose] | None, trust: Trust, name: str, epoch: int, tick: int, erase_within: int,
    now: int, processing: str = DEFAULT_PLACE, store: str | None = None, enrol: bool = False,
) -> None:  # fmt: skip
    """Make the folder of a new city; the arguments are those of :meth:`datasov.City.open`.

    Raises:
        InvalidQueryError: what is missing, or is none.
        StoreError: the disk refuses.
    """
    if budget is None:
        raise InvalidQueryError("a new city needs a budget: name one, for instance budget=ds.zcdp(rho=1.0)")
    check_loss(budget)
    if allowance is not None:
        check_loss(allowance)
        if not allowance <= budget:
            raise InvalidQueryError("an allowance is a part of the budget: give one that is not above it")
    if not purposes or isinstance(purposes, str):
        raise InvalidQueryError("a new city needs a list of purposes: name them, for instance ['bus-planning']")
    check_place(processing)
    known = declared(purposes)
    if not name or not name.isprintable() or len(name) > 64 or ":" in name:
        raise InvalidQueryError("a city's name is a printable text of 1 to 64 characters without a colon")
    check_text(name, "a city's name")
    if not all(isinstance(s, int) and s > 0 for s in (epoch, tick, period)):
        raise InvalidQueryError("epoch, tick and period are whole numbers of seconds above zero")
    if not isinstance(erase_within, int) or erase_within < 2 * tick:
        raise InvalidQueryError("erase_within is a whole number of seconds, of at least two ticks")
    secret = random(32)
    if enrol:
        trust = enrolled(trust, issuer_key(secret, ISSUER).public)
    elif (asked := trust.part("local")) is not None and asked.issuer_key:
        raise InvalidQueryError("a city makes its issuer key itself: found it with ds.local() and enrol=True")
    operator = place.operator_key(path, operator_key, create=True)
    signing, opening = place.keys(operator)
    settings = {
        "version": VERSION, "name": name, "id": str(CityId(name, signing.public, opening.public)),
        "origin": origin_of(signing.public), "earlier": [],
        "purposes": [p.name for p in known], "trust": trust.name, "epoch": epoch, "tick": tick,
        "period": period, "erase_within": erase_within, "founded": now, "processing": processing,
        "purpose_documents": [p.document() for p in known if p.document() != Purpose(p.name).document()],
        **({"issuer": seal_blob(issuing_key(operator), "issuer", secret).hex()} if enrol else {}),
        **({"parties": parties} if (parties := {k: v for k, v in trust.document().items() if k != "model"}) else {}),
    }  # fmt: skip

    def fill(new: Store) -> None:
        new.append({"city": (0, [canonical(settings)])})
        Ledger(new, budget, allowance)

    place.found(path, operator, fill, store)
