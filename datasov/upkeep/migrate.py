"""A city of an older version, brought to the present one by steps, each of which is a function."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasov.errors import StoreError
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.store import place, settings
from datasov.store.rewrite import Change, rewrite
from datasov.store.sqlite import SQLiteStore
from datasov.tlog.note import origin_of
from datasov.upkeep.backup import backup
from datasov.upkeep.exchange import exchanged, settle
from datasov.upkeep.identity import identity


@dataclass(frozen=True, slots=True)
class Older:
    """The city that a step starts from: its store, verified, and the operator's key."""

    store: SQLiteStore
    operator: bytes


Step = Callable[[Older], Change]
"""From a city of one version, what makes an entry of the next one of each of its entries."""


def to_2(older: Older) -> Change:
    """The log's origin, which no longer follows from the present key, and the ids before it; purses; places; erasure.

    The log, the answers and the spent budget stay as they are, byte for byte but for the name of a period's purse.

    Raises:
        StoreError: somebody's consent was admitted: those of version 1 are tokens that are no longer read.
    """
    if older.store.streams("registry/") or older.store.streams("accounts/series/"):
        raise StoreError(
            "the city holds consents or series of version 1, which this version does not read: keep it under the "
            "version that wrote it, found a city anew, and let residents consent to that"
        )

    def change(stream: str, _: int, body: bytes) -> bytes:
        if stream == "city":
            found: dict[str, Any] = json.loads(body)
            more = {
                "origin": origin_of(CityId.parse(found["id"]).verify_key), "earlier": [], "erase_within": 30 * 86_400,
                "processing": "JP", "purpose_documents": [],
            }  # fmt: skip
            return canonical({**found, **more})
        if stream == "ledger":
            entry: dict[str, Any] = json.loads(body)
            if entry["op"] == "reserve":
                purses = [f"the allowance of period {entry.pop('period')}"]
                return canonical({**entry, "purses": purses})
        return body

    return change


STEPS: Mapping[int, Step] = {2: to_2}
"""By the version that they lead to."""


def migrate(
    path: Path, *, operator_key: bytes | None = None, to: Path | None = None, now: int, at: str | None = None
) -> Path | None:
    """Bring a city to the present version, after a backup of it; the backup, or None where there was nothing to do.

    While it lasts no process may have the city open. A crash leaves the city as it was, or migrated.

    Args:
        to: where the backup goes; beside the city where None. at: the URL of a store on a server, for its password.

    Raises:
        StoreError: the city is newer than this version, open elsewhere or damaged, or the disk refuses.
    """
    settle(path, operator_key, at)
    store, operator = place.open_store(path, operator_key, at)
    try:
        version = settings.read(store)["version"]
        if version == settings.VERSION:
            return None
        if version > settings.VERSION:
            raise StoreError("the city was written by a newer version of datasov: update datasov")
        identity(settings.read(store), operator)
        to = path.with_name(f"{path.name}.v{version}.backup") if to is None else to
    finally:
        store.close()
    with exchanged(path, operator, operator, key_file=False, at=at) as (source, target):
        backup(source, path / "pool", operator, to, now)
        steps = [STEPS[number](Older(source, operator)) for number in range(version + 1, settings.VERSION + 1)]

        def change(stream: str, index: int, body: bytes) -> bytes:
            for step in steps:
                body = step(stream, index, body)
            if stream == "city":
                body = canonical({**json.loads(body), "version": settings.VERSION})
            return body

        rewrite(source, target, place.chain_key(operator), change, lambda _, data: data)
    return to
