"""The charter, the programmes with who approved them, and the notices as their signers signed them: all public."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from datasov.authority.approval import Signed, fingerprint, signers
from datasov.authority.governance import Governance
from datasov.authority.programme import Approved
from datasov.city import City
from datasov.gateway.operation import JSON, Call, Operation, Parameter, Reply
from datasov.gateway.problems import ProblemError
from datasov.gateway.public_log import FOR_GOOD, FRESH
from datasov.model.charter import Charter
from datasov.tlog.leaves import NoticeLeaf

_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_IDENTITY = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_SIGNERS = {
    "type": "array",
    "items": {"type": "object", "properties": {
        "key": _TEXT, "name": {"type": ["string", "null"]}, "group": {"enum": ["council", "assembly", None]},
    }},
}  # fmt: skip
_NOTICE = {
    "type": "object", "required": ["subject", "identity", "fingerprint", "time", "name", "version", "signers"],
    "properties": {
        "subject": {"enum": ["charter", "programme", "emergency"]}, "identity": _IDENTITY, "fingerprint": _TEXT,
        "time": _WHOLE, "name": {"type": ["string", "null"]}, "version": _WHOLE,
        "signers": _SIGNERS,
    },
}  # fmt: skip
_PROGRAMME = {
    "type": "object", "required": ["identity", "fingerprint", "state", "starts", "ends", "document", "remaining"],
    "properties": {
        "identity": _IDENTITY, "fingerprint": _TEXT, "state": {"enum": ["coming", "running", "over"]},
        "starts": _WHOLE, "ends": _WHOLE, "document": {"type": "object"}, "remaining": {"type": "object"},
        "signers": _SIGNERS,
    },
}  # fmt: skip
_TAG = "governance"


def operations() -> list[Operation]:
    """What everybody can ask of the city's governance."""
    return [
        Operation(
            "GET", "/v1/charter", _charter, "getCharter", "The present charter and who signed it", _TAG, None,
            [Reply(200, "with its signatures", {JSON: {"type": "object"}})], problems=[404],
        ),
        Operation(
            "GET", "/v1/programmes", _programmes, "listProgrammes", "The programmes, and who approved them", _TAG, None,
            [Reply(200, "in the order of their approval", {JSON: {"type": "array", "items": _PROGRAMME}})],
        ),
        Operation(
            "GET", "/v1/notices", _notices, "listNotices", "Every charter, programme and emergency", _TAG, None,
            [Reply(200, "oldest first", {JSON: {"type": "array", "items": _NOTICE}})],
        ),
        Operation(
            "GET", "/v1/notices/{identity}", _notice, "getNotice", "One of them, as it was signed", _TAG, None,
            [Reply(200, "what `datasov programme check` reads", {JSON: {"type": "object"}})],
            parameters=[Parameter("identity", "path", _IDENTITY, "of the document")], problems=[404],
        ),
    ]  # fmt: skip


def noticed(city: City) -> list[dict[str, Any]]:
    """Every notice of the city's governance, with the names that the charter of that time gives its signers."""
    state = city.governance
    return [_told(state, leaf) for leaf in city.notices()]


def programmes(city: City, now: int) -> list[dict[str, Any]]:
    """Every programme that was approved, how it stands, and who signed it."""
    state = city.governance
    by_identity = {leaf.identity: leaf for leaf in city.notices()}
    found = []
    for each in state.approved:
        end = state.end(each)
        found.append({
            "identity": each.identity.hex(), "fingerprint": fingerprint(each.identity),
            "state": _standing(each, end, now), "starts": each.starts, "ends": end,
            "document": each.programme.document(), "remaining": city.remaining_under(each.identity).document(),
            "signers": _told(state, by_identity[each.identity])["signers"],
        })  # fmt: skip
    return found


def _standing(each: Approved, end: int, now: int) -> str:
    if now >= end:
        return "over"
    return "running" if now >= each.starts else "coming"


def _told(state: Governance, leaf: NoticeLeaf) -> dict[str, Any]:
    signed = Signed.from_bytes(leaf.body)
    named = _members(state.at(leaf.time))
    by = signers(signed)
    keys = [*(k for k in named if k in by), *sorted(k for k in by if k not in named)]
    told = [{"key": key.hex(), **named.get(key, {"name": None, "group": None})} for key in keys]
    return {
        "subject": leaf.subject, "identity": leaf.identity.hex(), "fingerprint": fingerprint(leaf.identity),
        "time": leaf.time, "name": signed.document.get("name"), "version": signed.document["version"], "signers": told,
    }  # fmt: skip


def _members(charter: Charter | None) -> Mapping[bytes, Mapping[str, str | None]]:
    groups = charter.groups if charter is not None else ()
    return {m.key: {"name": m.name, "group": group} for group, members in groups for m in members.members}


def _charter(call: Call) -> Response:
    city = call.shared.city
    charters = [leaf for leaf in city.notices() if leaf.subject == "charter"]
    if not charters:
        raise ProblemError("not-found", "the city has no charter: every declared purpose may be asked for")
    leaf = charters[-1]
    found = {**_told(city.governance, leaf), "document": Signed.from_bytes(leaf.body).document}
    return JSONResponse(found, headers=FRESH)


def _programmes(call: Call) -> Response:
    return JSONResponse(programmes(call.shared.city, int(call.shared.clock())), headers=FRESH)


def _notices(call: Call) -> Response:
    return JSONResponse(noticed(call.shared.city), headers=FRESH)


def _notice(call: Call) -> Response:
    wanted = call.path["identity"]
    for leaf in call.shared.city.notices():
        if leaf.identity.hex() == wanted:
            return Response(leaf.body, media_type=JSON, headers=FOR_GOOD)
    raise ProblemError("not-found", "no such notice: see /v1/notices")
