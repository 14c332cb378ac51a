"""A release as it is stored, and the leaf that tells everybody of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datasov.errors import InternalError, VerificationError
from datasov.model.cohort import withhold
from datasov.model.document import canonical, digest
from datasov.model.plan import Noised, Request
from datasov.model.release import Release
from datasov.model.responses import Responses
from datasov.model.series import SeriesRelease, step_digest
from datasov.tlog.leaves import ReleaseLeaf, StepLeaf, encode_leaf
from datasov.wire import cbor, fields


def pack_release(release: Release) -> bytes:
    """Canonical CBOR: [the document's canonical text, the little-endian words of each statistic]."""
    return cbor.encode([canonical(release.document()), release.words])


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
        query_digest=query.digest, mechanism=release.mechanism, loss=release.loss, trust=release.trust.text,
        epoch=release.epoch, time=release.time, result_digest=release.digest, release_id=release.identifier,
        programme=bytes.fromhex(release.programme),
    )  # fmt: skip


def pack_opening(opening: SeriesRelease) -> bytes:
    """Canonical CBOR: ["series", the document's canonical text]."""
    return cbor.encode(["series", canonical(opening.document())])


def pack_step(noised: Noised, step: int, time: int, status: bytes = b"") -> tuple[bytes, bytes]:
    """A step as it is stored, ["step", its number, the time, the nodes' little-endian words], and its leaf."""
    values = [v.astype("<i8").tobytes() for v in noised.values]
    leaf = StepLeaf(noised.identifier, step, time, step_digest(noised.identifier, step, time, noised.values), status)
    return cbor.encode(["step", step, time, values]), encode_leaf(leaf)


def unpack_series(bodies: Sequence[bytes]) -> SeriesRelease:
    """The series of its stored opening and steps; VerificationError where they are none."""
    try:
        _, text = fields.items(cbor.decode(bodies[0]), 2, 2)
        found = SeriesRelease.from_document(json.loads(text))
        for place, body in enumerate(bodies[1:]):
            _, step, time, values = fields.items(cbor.decode(body), 4, 4)
            if step != place:
                raise ValueError
            found = found.and_step(tuple(np.frombuffer(v, dtype="<i8") for v in values), time)
    except (ValueError, KeyError, TypeError, IndexError) as fault:
        raise VerificationError("not a stored series: restore the city from a backup") from fault
    return found


def is_series(body: bytes) -> bool:
    """Whether a stored output is of a series, and no release."""
    return isinstance(cbor.decode(body)[0], str)


def is_opening(body: bytes) -> bool:
    """Whether a stored output is the opening of a series."""
    return bool(cbor.decode(body)[0] == "series")


def leaf_of_series(opening: SeriesRelease) -> ReleaseLeaf:
    """What the log says of a series when it is opened: its question, and the loss of the whole horizon."""
    question = opening.series.document()
    return ReleaseLeaf(
        purpose=opening.purpose, tables=opening.series.tables(), question=canonical(question),
        query_digest=digest(question), mechanism=opening.mechanism, loss=opening.loss, trust=opening.trust.text,
        epoch=0, time=opening.time, result_digest=opening.digest, release_id=opening.identifier,
        programme=bytes.fromhex(opening.programme),
    )  # fmt: skip


def record_release(
    request: Request, noised: Noised, city: str, now: int, status: bytes = b"", responses: Responses | None = None
) -> tuple[bytes, bytes]:  # fmt: skip
    """An answer as it is stored, without the cells below its programme's minimum cohort, and its leaf.

    `status` is the digest of the set of status lists that was applied; `responses` are devices' that noised their own.
    """
    plan = request.plan
    kept = withhold(plan.statistics, noised, request.cohort)
    release = Release(
        identifier=noised.identifier, city=city, query=plan.query, purpose=request.purpose,
        programme=request.programme, loss=request.loss, trust=request.trust, mechanism=request.mechanism,
        epoch=request.epoch, time=now, statistics=plan.statistics, parts=plan.parts, values=kept.noised.values,
        scales=plan.scales(request.loss) if request.trust.draws else (0.0,) * len(plan.statistics),
        cells=kept.noised.cells, cohort=request.cohort, withheld=kept.cells, withheld_whole=kept.whole,
        responses=responses,
    )  # fmt: skip
    return pack_release(release), encode_leaf(replace(leaf_of(release), status=status))


def record_step(
    request: Request, noised: Noised, step: int, city: str, now: int, status: bytes = b""
) -> tuple[bytes, bytes]:  # fmt: skip
    """A step of a series, or with -1 its opening, as it is stored, and its leaf."""
    if step >= 0:
        return pack_step(noised, step, now, status)
    if request.series is None:
        raise InternalError("a step belongs to a series")
    plan = request.plan
    opening = SeriesRelease(
        identifier=noised.identifier, city=city, series=request.series, purpose=request.purpose,
        programme=request.programme, loss=request.loss, trust=request.trust,
        mechanism=request.mechanism, time=now, statistic=plan.statistics[0],
        scale=plan.scales(request.series.paid(request.loss))[0],
    )  # fmt: skip
    return pack_opening(opening), encode_leaf(replace(leaf_of_series(opening), status=status))
