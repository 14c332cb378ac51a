"""What ends a consent: a verified revocation, of it or of a delegation with every consent under it; or its last day."""

from __future__ import annotations

from collections.abc import Sequence

from datasov.authority.partition import Partition
from datasov.authority.registry import ERASURES, Ending, Registry
from datasov.authority.reserved import STREAM
from datasov.model.consent import Consent
from datasov.model.delegation import Delegated
from datasov.wire import cbor


def endings(registry: Registry, ended: Consent | Delegated, now: int) -> Ending:
    """What to append and which blobs go. The registry's lock is held until it is appended.

    A consent that never came is barred, so that it never will; no consent under a delegation that ended comes again.

    Raises:
        ConsentError: it is revoked or superseded already.
    """
    if isinstance(ended, Consent):
        return registry.ending(ended, now)
    registry.refresh()
    registry.reserved.refresh()
    streams: dict[str, tuple[int, Sequence[bytes]]] = {
        STREAM: (registry.reserved.version, registry.reserved.end(ended.digest))
    }  # fmt: skip
    blobs: dict[str, bytes | None] = {}
    for account, consent in registry.reserved.under(ended.digest).items():
        partition = registry.partition(account)
        place = partition.places.get(ended.claims.subject)
        if place is None or not (member := partition.member(place)).live or member.digest != consent:
            continue
        one = registry.ending(registry.consent(partition, place), now)
        blobs |= one.blobs
        for stream, (version, events) in one.streams.items():
            streams[stream] = version, [*streams.get(stream, (version, ()))[1], *events]
    return Ending(streams, blobs)


def lapses(registry: Registry, partition: Partition, now: int) -> Ending | None:
    """What to append and which blobs go, of contributions that no question asked for until their consents expired.

    None where there are none. The registry's lock is held until it is appended.
    """
    places = partition.lapsed(now)
    if not places:
        return None
    hashes = [registry.erasure(partition, place, folded=False) for place in places]
    streams: dict[str, tuple[int, Sequence[bytes]]] = {
        partition.stream: (partition.version, [cbor.encode(["lapse", places])]), ERASURES: registry.erased(now, hashes),
    }  # fmt: skip
    return Ending(streams, dict.fromkeys(map(partition.blob, places)))
