"""The city's log over HTTP: C2SP tlog-tiles under `/log/`, proofs, and the whole of it in one file.

All of it is public and the same for everybody. Whoever reads tiles or the whole file tells nobody what concerns them; a
proof of one leaf does, so it is for monitors, and residents do not need it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from starlette.responses import JSONResponse, Response, StreamingResponse

from datasov.city import City
from datasov.errors import InternalError
from datasov.gateway.operation import JSON, OCTETS, TEXT, Call, Operation, Parameter, Reply
from datasov.gateway.problems import ProblemError, trace
from datasov.tlog import tiles
from datasov.tlog.export import MAGIC
from datasov.tlog.note import Proof, b64, encode_proof
from datasov.tlog.tiles import HEIGHT, TILE

FOR_GOOD = {"cache-control": "public, max-age=31536000, immutable"}
"""Of what never changes: tiles, full or partial, and bundles."""
FRESH = {"cache-control": "no-cache"}
_AT_ONCE = 16
"""Leaves that are in memory together for one answer, so that a reader who is slow holds little."""
_PATH = re.compile(r"((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_MAX_INDEX = 2**55
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 2**62}
_HASHES = {"type": "array", "items": {"type": "string", "description": "base64 of 32 bytes"}}
_TAG = "log"
_LEVEL = Parameter("level", "path", {"type": "integer", "minimum": 0, "maximum": 63}, "0: hashes of leaves")


def operations() -> list[Operation]:
    """What the log can be asked."""
    tile = Parameter("tile", "path", {"type": "string"}, "as C2SP tlog-tiles writes it: `000`, `x001/067.p/44`")
    octets = Reply(200, "the bytes, which never change", {OCTETS: {}}, {"cache-control": "for good"})
    return [
        Operation(
            "GET", "/log/checkpoint", _checkpoint, "getCheckpoint", "The log's signed checkpoint", _TAG, None,
            [Reply(200, "a C2SP tlog-checkpoint with every cosignature that the log has of it", {TEXT: {}})],
        ),
        Operation(
            "GET", "/log/cosigned", _cosigned, "getCosignedCheckpoint", "The last checkpoint that witnesses cosigned",
            _TAG, None, [Reply(200, "a C2SP tlog-checkpoint, which the log may have outgrown", {TEXT: {}})],
            problems=[404],
        ),
        Operation(
            "GET", "/log/tile/entries/{tile:path}", _entries, "getEntries", "A bundle of up to 256 leaves", _TAG, None,
            [octets], "404 also where a leaf is longer than 65,535 bytes: then /log/datasov/entries/ has it.",
            parameters=[tile], problems=[404],
        ),
        Operation(
            "GET", "/log/datasov/entries/{tile:path}", _wide, "getWideEntries", "A bundle with a longer leaf", _TAG,
            None, [octets], "As docs/spec/log.md says: lengths have four bytes.", parameters=[tile], problems=[404],
        ),
        Operation(
            "GET", "/log/tile/{level}/{tile:path}", _tile, "getTile", "A tile of up to 256 hashes", _TAG, None,
            [octets], parameters=[_LEVEL, tile], problems=[404],
        ),
        Operation(
            "GET", "/log/inclusion", _inclusion, "getInclusionProof", "That a leaf is in the log", _TAG, None,
            [Reply(200, "a C2SP tlog-proof against the present checkpoint", {TEXT: {}})],
            "It tells the city which leaf matters to whoever asks: residents read all of the log instead.",
            parameters=[Parameter("index", "query", _NUMBER, "of the leaf, from 0", True)], problems=[404],
        ),
        Operation(
            "GET", "/log/consistency", _consistency, "getConsistencyProof", "That the log only grew", _TAG, None,
            [Reply(200, "hashes as in RFC 6962, section 2.1.2", {JSON: {
                "type": "object", "required": ["old", "new", "hashes"], "properties": {
                    "old": _NUMBER, "new": _NUMBER, "hashes": _HASHES,
                },
            }})],
            parameters=[
                Parameter("old", "query", {**_NUMBER, "minimum": 1}, "size of the earlier tree", True),
                Parameter("new", "query", {**_NUMBER, "minimum": 1}, "size of the later one", True),
            ],
            problems=[404],
        ),
        Operation(
            "GET", "/log/export", _export, "exportLog", "The whole log in one file", _TAG, None,
            [Reply(200, "what `datasov receipts VAULT --log FILE` reads offline", {OCTETS: {}})],
        ),
    ]  # fmt: skip


def _checkpoint(call: Call) -> Response:
    return Response(call.shared.city.checkpoint().note, media_type=TEXT, headers=FRESH)


def _cosigned(call: Call) -> Response:
    found = call.shared.city.log.cosigned()
    if found is None:
        raise ProblemError("not-found", "no checkpoint of this log is cosigned yet: see /log/checkpoint")
    return Response(found.note, media_type=TEXT, headers=FRESH)


def place(text: str) -> tuple[int, int]:
    """Index and width of the path of a tile; ProblemError (404) where it is none, or not in its one spelling."""
    found = _PATH.fullmatch(text)
    index = int(found[1].replace("x", "").replace("/", "")) if found else _MAX_INDEX
    width = int(found[2] or TILE) if found else 0
    if index >= _MAX_INDEX or not 0 < width <= TILE or tiles.path("", index, width) != f"/{text}":
        raise _nothing()
    return index, width


def _nothing() -> ProblemError:
    return ProblemError("not-found", "the log has no such tile: see /log/checkpoint for its size")


def _tile(call: Call) -> Response:
    level, log = call.path["level"], call.shared.city.log
    index, width = place(call.path["tile"])
    if width > tiles.width_at(log.size, level, index):
        raise _nothing()
    first = index * TILE
    hashes = (log.node(HEIGHT * level, at) for at in range(first, first + width))
    return Response(b"".join(hashes), media_type=OCTETS, headers=FOR_GOOD)


def _entries(call: Call) -> Response:
    return _bundle(call, wide=False)


def _wide(call: Call) -> Response:
    return _bundle(call, wide=True)


def _bundle(call: Call, *, wide: bool) -> Response:
    city = call.shared.city
    index, width = place(call.path["tile"])
    if width > tiles.width_at(city.log.size, 0, index) or _is_wide(city, index, width) != wide:
        raise _nothing()
    return StreamingResponse(_leaves(city, index * TILE, width, 4 if wide else 2), media_type=OCTETS, headers=FOR_GOOD)


def _leaves(city: City, first: int, many: int, prefix: int) -> Iterator[bytes]:
    """Leaves with their lengths, a few at a time."""
    for start in range(first, first + many, _AT_ONCE):
        try:
            leaves = city.log.leaves(start, min(start + _AT_ONCE, first + many))
        except Exception as fault:
            told = f"an answer was cut off: {type(fault).__name__} at {trace(fault)}"
            raise InternalError(told) from None  # uvicorn logs it whole: what the store said is not for that
        for leaf in leaves:
            yield len(leaf).to_bytes(prefix, "big") + leaf


def _is_wide(city: City, index: int, width: int) -> bool:
    first = index * TILE
    return any(
        tiles.is_wide(city.log.leaves(start, min(start + _AT_ONCE, first + width)))
        for start in range(first, first + width, _AT_ONCE)
    )


def _inclusion(call: Call) -> Response:
    city, index = call.shared.city, call.query["index"]
    checkpoint = city.checkpoint()
    if index >= checkpoint.size:
        raise ProblemError("not-found", "the log has no such leaf: see /log/checkpoint for its size")
    proof = Proof(index, tuple(city.log.inclusion(index, checkpoint.size)), checkpoint.note)
    return Response(encode_proof(proof), media_type=TEXT, headers=FRESH)


def _consistency(call: Call) -> Response:
    old, new, log = call.query["old"], call.query["new"], call.shared.city.log
    if not 1 <= old <= new <= log.size:
        raise ProblemError("not-found", "the log has no such trees: give 1 <= old <= new <= its size")
    found = {"old": old, "new": new, "hashes": [b64(h) for h in log.consistency(old, new)]}
    return JSONResponse(found, headers=FOR_GOOD)


def _export(call: Call) -> Response:
    city = call.shared.city
    checkpoint = city.checkpoint()
    length = struct.Struct(">I")

    def parts() -> Iterator[bytes]:
        yield MAGIC + length.pack(len(checkpoint.note)) + checkpoint.note
        yield from _leaves(city, 0, checkpoint.size, length.size)

    headers = {**FRESH, "content-disposition": 'attachment; filename="city.log"'}
    return StreamingResponse(parts(), media_type=OCTETS, headers=headers)
