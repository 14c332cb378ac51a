"""Handing what a resident signed to a city: to its gateway, or to one whose folder and key are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasov.authority import letters, parcel
from datasov.city import City
from datasov.errors import PeerError, ProofError
from datasov.home.outbox import Message, Send
from datasov.model.consent import CityId
from datasov.remote import Remote
from datasov.store.place import is_city
from datasov.tlog.note import open_checkpoint, peek_checkpoint

PATIENCE = 60.0
"""Seconds for which a city's gateway is waited for: while it is asked, the page does nothing else."""


def hand(message: Message, city: City) -> None:
    """Give a message to a city that is open here."""
    if message.kind == "revocation":
        city.revoke(message.data)
    else:
        city.admit(*parcel.unparcel(message.data))


def open_city(city: City) -> Send:
    """A sender to one open city, and to nobody else."""

    def send(message: Message) -> bool:
        if message.city.verify_key != city.id.verify_key:
            raise _unreachable(message.city)
        hand(message, city)
        return True

    return send


def folders(places: Sequence[Path], operator_key: bytes | None = None) -> Send | None:
    """A sender to the cities in these folders, each opened for the moment; None where none of them is a city's."""
    found = [place for place in places if is_city(place)]

    def send(message: Message) -> bool:
        for place in found:
            with City.open(place, operator_key=operator_key) as city:
                if city.id.verify_key == message.city.verify_key:
                    hand(message, city)
                    return True
        raise _unreachable(message.city)

    return send if found else None


def gateways(addresses: Sequence[str], present: CityId | None = None) -> Send | None:
    """A sender of letters to the gateways at these addresses; None where there is none.

    A letter goes to the gateway alone whose log the message's city has signed, so that no other city learns that there
    was one. That it was taken proves nothing: the city's log tells what became of it.

    Args:
        present: a city's id since its operator changed its key, where that signs its log now.
    """

    def send(message: Message) -> bool:
        letter, fault = _letter(message), None
        for address in addresses:
            try:
                if _runs(address, message.city, present):
                    with Remote(address, within=PATIENCE) as remote:
                        remote.send(letter)
                    return False
            except PeerError as why:
                fault = why
        raise fault or _unreachable(message.city)

    return send if addresses else None


def first(*senders: Send | None) -> Send | None:
    """A sender that tries these in turn; None where none of them is one."""
    found = [sender for sender in senders if sender is not None]

    def send(message: Message) -> bool:
        for sender in found[:-1]:
            try:
                return sender(message)
            except PeerError:
                continue
        return found[-1](message)

    return send if found else None


def _letter(message: Message) -> bytes:
    """A message, sealed whole and padded as all letters are."""
    if message.kind == "revocation":
        return letters.seal_ending(message.data, message.city)
    return letters.seal_admission(*parcel.unparcel(message.data), message.city)


def _runs(address: str, city: CityId, present: CityId | None) -> bool:
    """Whether the log of the gateway at an address is signed by the city."""
    with Remote(f"{address}/log", within=PATIENCE) as remote:
        note = remote.note()
    try:
        origin = peek_checkpoint(note).origin
    except ProofError:
        raise PeerError(f"{address} is no gateway of a city: check the address") from None
    for one in (city, present):
        try:
            if one is not None:
                open_checkpoint(note, origin, one.verify_key)
                return True
        except ProofError:
            continue
    return False


def _unreachable(city: CityId) -> PeerError:
    return PeerError(f"nothing here reaches {city.name}: hand it the file")
