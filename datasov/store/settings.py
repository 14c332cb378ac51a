"""A city's settings: the one entry of the stream `city`, as canonical JSON."""

from __future__ import annotations

import json
from typing import Any

from datasov.errors import StoreError
from datasov.store.stores import Store

VERSION = 2
"""Of a city's formats. :mod:`datasov.upkeep.migrate` brings an older city to it."""


def read(store: Store) -> dict[str, Any]:
    """The settings, of whatever version; StoreError where the store is no city's."""
    founding = store.read("city", 0, 1)
    try:
        found: dict[str, Any] = json.loads(founding[0])
        if type(found["version"]) is not int or type(found["id"]) is not str or type(found["name"]) is not str:
            raise TypeError
    except (IndexError, ValueError, KeyError, TypeError):
        raise StoreError("this is no city: name the folder that City.open made") from None
    return found


def check_version(settings: dict[str, Any]) -> None:
    """Raise StoreError unless this version of datasov reads a city of that version."""
    if settings["version"] > VERSION:
        raise StoreError("the city was written by a newer version of datasov: update datasov")
    if settings["version"] < VERSION:
        raise StoreError(
            "the city was written by an older version of datasov: run `datasov city migrate PATH`, or call"
            " City.migrate(path), which makes a backup first"
        )
