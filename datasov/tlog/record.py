"""A release as it is stored, and the leaf that tells everybody of it."""

from __future__ import annotations

import json

from datasov.errors import VerificationError
from datasov.model.document import canonical
from datasov.model.release import Release
from datasov.tlog.leaves import ReleaseLeaf
from datasov.wire import cbor, fields


def pack_release(release: Release) -> bytes:
    """Canonical CBOR: [the document's canonical text, the little-endian words of each statistic]."""
    return cbor.encode([canonical(release.document()), [v.astype("<i8").tobytes() for v in release.values]])


def unpack_release(data: bytes) -> Release:
    """The release of these bytes; VerificationError where they are none."""
    text, values = fields.items(cbor.decode(data), 2, 2)
    try:
        return Release.from_document(json.loads(text), dict(enumerate(values)))
    except (ValueError, KeyError, TypeError) as fault:
        raise VerificationError("not a stored release: restore the city from a backup") from fault


def leaf_of(release: Release) -> ReleaseLeaf:
    """What the log says of a release: the same to everybody, and nothing of who or how many contributed."""
    query = release.query
    return ReleaseLeaf(
        purpose=release.purpose, tables=query.tables(), question=canonical(query.document()),
        query_digest=query.digest, mechanism=release.mechanism, loss=release.loss, trust=release.trust.name,
        epoch=release.epoch, time=release.time, result_digest=release.digest, release_id=release.identifier,
    )  # fmt: skip
