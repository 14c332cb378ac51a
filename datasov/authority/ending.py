"""What a verified revocation changes: of one consent, or of a delegation with every consent under it."""

from __future__ import annotations

from collections.abc import Sequence

from datasov.authority.registry import Registry
from datasov.authority.reserved import STREAM
from datasov.model.consent import Consent
from datasov.model.delegation import Delegated

Batch = dict[str, tuple[int, Sequence[bytes]]]


def endings(registry: Registry, ended: Consent | Delegated) -> tuple[Batch, dict[str, bytes | None]]:
    """What to append at which versions, and the blobs that go. The registry's lock is held until it is appended.

    A consent that never came is barred, so that it never will; no consent under a delegation that ended comes again.

    Raises:
        ConsentError: it is revoked or superseded already.
    """
    if isinstance(ended, Consent):
        partition, event, blob = registry.ending(ended)
        return {
            partition.stream: (partition.version, [event] if event else []),
            "barred": (registry.bars, [] if event else [ended.digest]),
        }, ({blob: None} if blob else {})
    registry.refresh()
    registry.reserved.refresh()
    batch: Batch = {STREAM: (registry.reserved.version, registry.reserved.end(ended.digest))}
    blobs: dict[str, bytes | None] = {}
    for digest in registry.reserved.under(ended.digest).values():
        found = registry.live(digest)
        if found is not None:
            partition, event, blob = found
            batch[partition.stream] = (partition.version, [event])
            if blob:
                blobs[blob] = None
    return batch, blobs
