"""A stand-in for Orion 3.10.1, as far as its recorded traffic tells how it behaves, and a small NGSI-LD broker.

The first is checked against every recorded pair (tests/unit/test_ngsi_orion.py). Nothing was recorded of the second: it
does what ETSI GS CIM 009 says of a batch upsert, and takes what the OpenAPI document takes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, dict[str, str], Any]
FORBIDDEN = set("<>\"'=;()")
NOWHERE = {
    "code": "400",
    "reasonPhrase": "Bad Request",
    "details": "Service not found. Check your URL as probably it is wrong.",
}


class Refused(Exception):
    def __init__(self, status: int, error: str, description: str) -> None:
        self.answer: Answer = status, {}, {"error": error, "description": description}


def bad(text: str) -> Refused:
    return Refused(400, "BadRequest", text)


class Orion:
    """Entities by Fiware-Service and path, and the notifications that would go out."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.watched: list[dict[str, Any]] = []
        self.notified: list[list[dict[str, Any]]] = []
        self._lock = threading.Lock()

    def __call__(self, method: str, target: str, headers: dict[str, str], body: Any) -> Answer:
        given = {k.lower(): v for k, v in headers.items()}
        parts = urlsplit(target)
        query = {k: unquote(v[0]) for k, v in parse_qs(parts.query.replace("==", "%3D%3D").replace(";", "%3B")).items()}
        options = set(query.get("options", "").split(","))
        with self._lock:
            own = self.held.setdefault((given.get("fiware-service", ""), given.get("fiware-servicepath", "/")), {})
            try:
                return self._route(method, parts.path, query, options, own, body)
            except Refused as refused:
                return refused.answer

    def _route(self, method: str, path: str, query: dict[str, str], options: set[str], own: Any, body: Any) -> Answer:
        one = re.fullmatch(r"/v2/entities/([^/]+)/attrs(?:/([^/]+))?", path)
        if (method, path) == ("POST", "/v2/subscriptions"):
            self.watched.append(body)
            return 201, {"Location": "/v2/subscriptions/ID"}, ""
        if (method, path) == ("POST", "/v2/entities"):
            name = body.get("id")
            there = isinstance(name, str) and name in own
            if there and "upsert" not in options:
                checked(body)
                raise Refused(422, "Unprocessable", "Already Exists")
            self._merge(own, body, override=False)
            where = {"Location": f"/v2/entities/{name}?type={body['type']}"}
            return (204 if there else 201), where, ""
        if (method, path) == ("POST", "/v2/op/update"):
            for entity in body["entities"]:
                if body["actionType"] == "appendStrict" and entity["id"] in own:
                    raise Refused(422, "Unprocessable", "Already Exists")
                checked(entity)
            for entity in body["entities"]:
                self._merge(own, entity, override="overrideMetadata" in options)
            return 204, {}, ""
        if one and one[1] in own and method == "PATCH" and one[2] is None:
            entity = {"id": one[1], "type": own[one[1]]["type"], **body}
            self._merge(own, entity, override="overrideMetadata" in options)
            return 204, {}, ""
        if one and one[1] in own and method == "GET" and one[2] is not None:
            return 200, {}, own[one[1]][one[2]]
        if (method, path) == ("GET", "/v2/entities"):
            found = [e for e in own.values() if e["type"] == query.get("type", e["type"]) and asked(e, query)]
            shown = found[: int(query.get("limit", 20))]
            if "keyValues" in options:
                shown = [{k: v["value"] if isinstance(v, dict) else v for k, v in e.items()} for e in shown]
            return 200, ({"Fiware-Total-Count": str(len(found))} if "count" in options else {}), shown
        return 400, {}, {"orionError": NOWHERE}

    def _merge(self, own: dict[str, Any], entity: dict[str, Any], *, override: bool) -> None:
        checked(entity)
        held = own.setdefault(entity["id"], {"id": entity["id"], "type": entity["type"]})
        before = json.dumps(held, sort_keys=True)
        for name, told in entity.items():
            if name in ("id", "type"):
                continue
            stays = {} if override or name not in held else held[name]["metadata"]
            value = told.get("value")
            if told.get("type") == "DateTime" and value is not None:
                value = normal(value)
            held[name] = {"type": told["type"], "value": value, "metadata": {**stays, **told.get("metadata", {})}}
        if json.dumps(held, sort_keys=True) != before:
            self.notified += [
                [json.loads(json.dumps(held))]
                for w in self.watched if set(w["subject"]["condition"]["attrs"]) & set(entity)
            ]  # fmt: skip


def checked(entity: dict[str, Any]) -> None:
    """Raise where Orion refuses an entity for its characters."""
    for name in (entity.get("id"), entity.get("type")):
        if (
            not isinstance(name, str)
            or not re.fullmatch(r"[!-~]{1,256}", name)
            or set(name) & (FORBIDDEN | set("&?/#"))
        ):
            raise bad("Invalid characters in entity id")
    for name, told in entity.items():
        if name in ("id", "type"):
            continue
        if not re.fullmatch(r"[!-~]{1,256}", name) or set(name) & (FORBIDDEN | set("&?/#")):
            raise bad("Invalid characters in attribute name")
        if told.get("type") != "TextUnrestricted" and any(FORBIDDEN & set(t) for t in texts(told.get("value"))):
            raise bad("Invalid characters in attribute value")
        for meta in told.get("metadata", {}).values():
            if any(FORBIDDEN & set(t) for t in texts(meta.get("value"))):
                raise bad("Invalid characters in metadata value")


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(part)


def normal(text: str) -> str:
    when = dt.datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return when.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def asked(entity: dict[str, Any], query: dict[str, str]) -> bool:
    """Of the simple query language: conditions with == and >, quoted values being texts, and mq on metadata."""
    for kind in ("q", "mq"):
        for clause in filter(None, query.get(kind, "").split(";")):
            name, operator, wanted = re.fullmatch(r"([\w.]+)(==|>)(.*)", clause).groups()  # type: ignore[union-attr]
            attribute, _, meta = name.partition(".")
            held = entity.get(attribute)
            if held is None or (meta and meta not in held["metadata"]):
                return False
            value = held["metadata"][meta]["value"] if meta else held["value"]
            quoted = wanted.startswith("'") and wanted.endswith("'")
            number = re.fullmatch(r"-?\d+(\.\d+)?", wanted)
            sought: Any = wanted[1:-1] if quoted else float(wanted) if number else wanted
            if type(value) in (int, float) and isinstance(sought, float):
                holds = value == sought if operator == "==" else value > sought
            else:
                holds = isinstance(sought, str) and operator == "==" and value == sought
            if not holds:
                return False
    return True


class Linked:
    """An NGSI-LD broker that knows the batch upsert; `check` tells what is wrong with the body, or nothing."""

    def __init__(self, check: Callable[[Any], list[str]] = lambda _: []) -> None:
        self.held: dict[str, dict[str, dict[str, Any]]] = {}
        self._check = check

    def __call__(self, method: str, target: str, headers: dict[str, str], body: Any) -> Answer:
        given = {k.lower(): v for k, v in headers.items()}
        own = self.held.setdefault(given.get("ngsild-tenant", ""), {})
        parts = urlsplit(target)
        if (method, parts.path) != ("POST", "/ngsi-ld/v1/entityOperations/upsert"):
            return 404, {}, {"type": "https://uri.etsi.org/ngsi-ld/errors/ResourceNotFound", "title": "no such path"}
        if given.get("content-type") != "application/ld+json" or (faults := self._check(body)):
            return 400, {}, {"type": "https://uri.etsi.org/ngsi-ld/errors/BadRequestData", "title": str(faults)[:200]}
        replace = parse_qs(parts.query).get("options", ["replace"]) == ["replace"]
        made = [e["id"] for e in body if e["id"] not in own]
        for entity in body:
            own[entity["id"]] = entity if replace else {**own.get(entity["id"], {}), **entity}
        return (201, {}, made) if made else (204, {}, "")


@contextlib.contextmanager
def served(broker: Callable[[str, str, dict[str, str], Any], Answer]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """A broker behind HTTP on loopback: its URL, and the requests that it saw (method, target, headers, bytes)."""
    seen: list[tuple[Any, ...]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append((self.command, self.path, dict(self.headers), data))
            status, headers, body = broker(
                self.command, self.path, dict(self.headers), json.loads(data) if data else None
            )
            text = b"" if body == "" else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(b"" if status == 204 else text)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
