"""The order in which a batch is admitted: drawn anew, so that neighbours in it are not neighbours in the registry.

Who sends for two domains sends for both at once. In the order of arrival their places would join the two pools.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasov.authority.admission import Admission
from datasov.crypto.kdf import random, sha256
from datasov.errors import DatasovError


def mixed(verified: Sequence[Admission | DatasovError]) -> list[int]:
    """The indexes of a batch in a random order, but those of one account in the order in which they came."""
    secret = random(32)

    def key(index: int) -> bytes:
        item = verified[index]
        return sha256(secret, item.consent.claims.account if isinstance(item, Admission) else b"")

    return sorted(range(len(verified)), key=key)
