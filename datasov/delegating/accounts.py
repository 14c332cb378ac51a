"""The keys of a vault's own accounts: one for each domain and controller, whatever keys a city changes to.

A city that changed its keys has another id, and is the same controller: under another key its resident would be a
second one, in the same questions, with a second account of loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datasov.authority import held
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError
from datasov.model.consent import CityId, Claims
from datasov.vault import Vault


def account_key(vault: Vault, domain: str, city: CityId) -> SigningKey:
    """A key of its own for each domain and controller: no two of them can be linked by it.

    For a city whose log has told the vault of earlier ids it is the key that the oldest consent stands under.
    """
    accounts = {r.consent.claims.account for r in held.unpack(vault.state(held.CONSENTS))}
    found = list(account_keys(vault, domain, city))
    return next((key for key in found[1:] if key.public in accounts), found[0])


def account_keys(vault: Vault, domain: str, city: CityId) -> Iterator[SigningKey]:
    """The keys that may stand for an account in a city: of the id that is given, then of all its ids, oldest first."""
    for text in (str(city), *held.succession(vault.state(held.succession_note(str(city))))):
        yield SigningKey(vault.derive(b"datasov consent key v1 " + domain.encode() + sha256(text.encode())))


def key_of(vault: Vault, domain: str, claims: Claims) -> SigningKey:
    """The key of the account that a consent draws on; ConsentError where it is none of this vault's."""
    for key in account_keys(vault, domain, CityId.parse(claims.audience)):
        if key.public == claims.account:
            return key
    raise ConsentError("the consent is on an account of another vault: use it there")


def follow(vault: Vault, ids: Iterable[CityId]) -> None:
    """Keep the ids that a city has had, oldest first, as a log that was verified tells them."""
    texts = [str(city) for city in ids]
    note = held.pack_succession(texts)
    names = [held.succession_note(text) for text in texts]
    if len(texts) > 1 and any(vault.state(name) != note for name in names):
        vault.set_state(dict.fromkeys(names, note))
