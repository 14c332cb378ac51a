"""What residents ask and send: who the city is, and letters.

A letter is answered by its size alone, before anything in it is looked at. It is opened when its tick is over, with all
others, and the log tells everybody alike what became of it. docs/gateway-public.md
"""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import JSONResponse, Response

from datasov.authority import letters
from datasov.city import City
from datasov.errors import StoreError
from datasov.gateway.operation import JSON, OCTETS, Call, Operation, Parameter, Reply
from datasov.gateway.problems import ProblemError
from datasov.gateway.public_log import FRESH
from datasov.model.schema import Schema
from datasov.tlog.note import vkey

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_TAG = "residents"
_CITY = {
    "type": "object",
    "required": [
        "id", "name", "log", "purposes", "trust", "parties", "processing", "tick", "epoch", "erase_within", "tables",
    ],
    "properties": {
        "id": {**_TEXT, "description": "compare it with the one that you have from elsewhere"}, "name": _TEXT,
        "log": {"type": "object", "properties": {"origin": _TEXT, "key": _TEXT, "path": _TEXT}},
        "purposes": {"type": "array", "items": {"type": "object"}},
        "trust": _TEXT, "parties": {"type": "object", "description": "the trust, with whom a consent commits to"},
        "signed_trust": {**_TEXT, "description": "base64 of it, signed: `datasov.authority.signed_trust.read_trust`"},
        "processing": _TEXT, "tick": _WHOLE, "epoch": _WHOLE, "erase_within": _WHOLE,
        "tables": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip
_TAKEN = {
    "type": "object", "required": ["taken_up", "told"],
    "properties": {
        "taken_up": {**_WHOLE, "description": "Unix seconds from which the letters of this tick are opened"},
        "told": {**_WHOLE, "description": "Unix seconds from which the log tells what became of them"},
    },
}  # fmt: skip


def operations() -> list[Operation]:
    """What residents can ask and send."""
    return [
        Operation(
            "GET", "/v1/city", _city, "getCity", "Who the city is, what it declares, and its tables", _TAG, None,
            [Reply(200, "the same for everybody", {JSON: _CITY})],
        ),
        Operation(
            "POST", "/v1/letters", _letter, "postLetter", "Send a consent with its rows, or a revocation", _TAG, None,
            [Reply(202, "it is on the disk; the answer is the same for every letter of this tick", {JSON: _TAKEN})],
            "A letter is sealed to the city and padded (`resident.letter`, `resident.revocation_letter`). Sending it "
            "again does no harm. It is not opened here: what became of it stands in the log, as salted hashes that "
            "only its sender can tell (`resident.sent`).",
            body={OCTETS: {}}, most=letters.MAX_LETTER + letters.OVERHEAD, problems=[422],
        ),
        Operation(
            "GET", "/v1/status", _status, "getStatus", "The set of status lists in force", _TAG, None,
            [Reply(200, "as docs/spec/status.md says; its SHA-256 stands in the leaf of each answer", {OCTETS: {}})],
        ),
        Operation(
            "GET", "/v1/status/{number}", _status_list, "getStatusList", "A signed Token Status List", _TAG, None,
            [Reply(200, "a CWT of the IETF's Token Status List", {"application/statuslist+cwt": {}})],
            "Whoever asks for one alone tells which one matters to them: ask for several, or for all.",
            parameters=[Parameter("number", "path", {"type": "integer", "minimum": 0, "maximum": 4095}, "of the list")],
            problems=[404],
        ),
    ]  # fmt: skip


def _city(call: Call) -> Response:
    return JSONResponse(described(call.shared.city, list(call.shared.tables.values())), headers=FRESH)


def described(city: City, tables: list[Schema]) -> dict[str, Any]:
    """What everybody is told of a city."""
    periods = city.periods
    return {
        "id": str(city.id), "name": city.id.name,
        "log": {"origin": city.log.origin, "key": vkey(city.log.origin, city.log.public), "path": "/log/"},
        "purposes": [city.purpose(name).document() for name in city.purposes],
        "trust": city.trust.name, "parties": city.trust.document(),
        "signed_trust": base64.b64encode(city.signed_trust()).decode(), "processing": city.processing,
        "tick": periods.tick, "epoch": periods.epoch,
        "erase_within": periods.erase_within,
        "tables": [{"digest": s.digest.hex(), "schema": s.document()} for s in tables],
    }  # fmt: skip


def _letter(call: Call) -> Response:
    city = call.shared.city
    taken_up = city.receive(call.body)
    found = {"taken_up": taken_up, "told": taken_up + city.periods.tick}
    return JSONResponse(found, 202, headers={"cache-control": "no-store"})


def _status(call: Call) -> Response:
    return Response(call.shared.city.status(), media_type=OCTETS, headers=FRESH)


def _status_list(call: Call) -> Response:
    city, number = call.shared.city, call.path["number"]
    try:
        found = city.status_list(number)
    except StoreError:
        raise ProblemError("not-found", "no status list of this number was published yet") from None
    return Response(found, media_type="application/statuslist+cwt", headers=FRESH)
