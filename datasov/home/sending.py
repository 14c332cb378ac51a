"""Handing what a resident signed to a city: to one whose folder and key are on this machine, as in a prototype."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasov.authority import parcel
from datasov.city import City
from datasov.errors import PeerError
from datasov.home.outbox import Message, Send
from datasov.model.consent import CityId
from datasov.store.place import is_city


def hand(message: Message, city: City) -> None:
    """Give a message to a city that is open here."""
    if message.kind == "revocation":
        city.revoke(message.data)
    else:
        city.admit(*parcel.unparcel(message.data))


def open_city(city: City) -> Send:
    """A sender to one open city, and to nobody else."""

    def send(message: Message) -> None:
        if message.city.verify_key != city.id.verify_key:
            raise _unreachable(message.city)
        hand(message, city)

    return send


def folders(places: Sequence[Path], operator_key: bytes | None = None) -> Send | None:
    """A sender to the cities in these folders, each opened for the moment; None where none of them is a city's."""
    found = [place for place in places if is_city(place)]

    def send(message: Message) -> None:
        for place in found:
            with City.open(place, operator_key=operator_key) as city:
                if city.id.verify_key == message.city.verify_key:
                    return hand(message, city)
        raise _unreachable(message.city)

    return send if found else None


def _unreachable(city: CityId) -> PeerError:
    return PeerError(f"nothing here reaches {city.name}: hand it the file")
