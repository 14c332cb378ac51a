"""The ids that a city has had, and the keys that open what is addressed to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from datasov.crypto.kdf import hkdf
from datasov.crypto.seal import OpeningKey
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError, DecryptionError, StoreError
from datasov.model.consent import CityId
from datasov.pool.sealed import issuing_key, open_blob, seal_blob
from datasov.store import place
from datasov.tlog.note import origin_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Earlier:
    """An id that the city had, and until when (Unix seconds) it takes contributions that are sealed to it."""

    id: CityId
    opening: OpeningKey
    until: int


@dataclass(frozen=True, slots=True)
class Identity:
    """A city by its present keys, and its earlier ids, newest first."""

    id: CityId
    signing: SigningKey
    opening: OpeningKey
    origin: str
    earlier: tuple[Earlier, ...]

    def take(self, open_: Callable[[CityId, OpeningKey], T], now: int | None = None) -> T:
        """What `open_` gives under the present id, or an earlier one that takes what is sealed to it.

        Args:
            now: Unix seconds, for what is taken for a time; None for what is taken for good, as revocations are.

        Raises:
            As `open_` under the present id, where it opens under none.
        """
        try:
            return open_(self.id, self.opening)
        except (ConsentError, DecryptionError):
            for earlier in self.earlier:
                if now is None or now < earlier.until:
                    with contextlib.suppress(ConsentError, DecryptionError):
                        return open_(earlier.id, earlier.opening)
            raise


def identity(settings: dict[str, Any], operator: bytes) -> Identity:
    """Who the city is; StoreError where the operator's key is another city's, or an earlier one of this city."""
    signing, opening = place.keys(operator)
    city = CityId(settings["name"], signing.public, opening.public)
    if str(city) != settings["id"]:
        raise StoreError("the operator's key is not this city's: bring the right one back")
    earlier = tuple(
        Earlier(CityId.parse(e["id"]), OpeningKey(_opened(operator, e)), e["until"])
        for e in reversed(settings.get("earlier", []))
    )
    return Identity(city, signing, opening, settings.get("origin") or origin_of(signing.public), earlier)


def handed_on(settings: dict[str, Any], operator: bytes, renewed: bytes, until: int) -> dict[str, Any]:
    """The settings under another key, which keeps opening what is sealed to the ids before it.

    The operator's key itself is not kept: only what opens contributions, sealed under the new key.
    """
    signing, opening = place.keys(renewed)
    before = [
        *({**e, "opening": _sealed(renewed, e["id"], _opened(operator, e))} for e in settings["earlier"]),
        {"id": settings["id"], "until": until,
         "opening": _sealed(renewed, settings["id"], place.opening_seed(operator))},
    ]  # fmt: skip
    new = CityId(settings["name"], signing.public, opening.public)
    issuer = issuer_secret(settings, operator)
    kept = {} if issuer is None else {"issuer": seal_blob(issuing_key(renewed), "issuer", issuer).hex()}
    return {**settings, "id": str(new), "earlier": before, **kept}


def issuer_secret(settings: dict[str, Any], operator: bytes) -> bytes | None:
    """The secret of the city's issuer of enrolment tokens, 32 bytes; None where it issues none.

    It outlives the operator's key: its public half stands in the trust that consents name.
    """
    sealed = settings.get("issuer")
    return None if sealed is None else open_blob(issuing_key(operator), "issuer", bytes.fromhex(sealed))


def _key(operator: bytes) -> bytes:
    return hkdf(operator, salt=b"", info=b"datasov earlier opening keys v1")


def _sealed(operator: bytes, city: str, seed: bytes) -> str:
    return seal_blob(_key(operator), city, seed).hex()


def _opened(operator: bytes, entry: dict[str, Any]) -> bytes:
    return open_blob(_key(operator), entry["id"], bytes.fromhex(entry["opening"]))
