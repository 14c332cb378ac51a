"""Answers ready to be sent: rendered once, kept while there is room, and revalidated by their ETags."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from starlette.responses import Response

from datasov.catalogue import entries
from datasov.city import City
from datasov.gateway import formats
from datasov.model.release import Release
from datasov.model.schema import DOMAINS, Schema
from datasov.model.series import SeriesRelease

ROOM = 64 * 1024 * 1024
"""Bytes of rendered answers that are kept."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A body with its type, its ETag (of these bytes) and what else stands in its headers."""

    body: bytes
    media: str
    etag: str
    headers: Mapping[str, str]
    programme: str = ""
    lasting: bool = True

    @staticmethod
    def made(body: bytes, media: str, headers: Mapping[str, str] | None = None) -> Rendered:
        return Rendered(body, media, f'"{hashlib.sha256(body).hexdigest()[:32]}"', headers or {})

    @staticmethod
    def of(answer: Release | SeriesRelease, media: str, confidence: float, part: str, last: int | None) -> Rendered:
        """An answer; a release never changes, and a series grows."""
        body = formats.render(answer, media, confidence, part, last)
        about = formats.headers(formats.about(answer, confidence))
        made = Rendered.made(body, media, {**about, "vary": "accept, authorization"})
        return replace(made, programme=answer.programme, lasting=isinstance(answer, Release))

    def response(self, headers: Mapping[str, str], condition: str | None = None) -> Response:
        """200 with the body, or 304 where `condition` (If-None-Match) names the ETag."""
        matched = condition is not None and self._matches(condition)
        response = Response(status_code=304) if matched else Response(self.body)
        told = _encoded(tuple(self.headers.items()), self.etag, tuple(headers.items()))
        response.raw_headers += told if matched else [*told, (b"content-type", _typed(self.media).encode())]
        return response

    def _matches(self, condition: str) -> bool:
        listed = [c.strip().removeprefix("W/") for c in condition.split(",")[:64]]
        return "*" in listed or self.etag in listed


@lru_cache(maxsize=1024)
def _encoded(
    own: tuple[tuple[str, str], ...], etag: str, more: tuple[tuple[str, str], ...]
) -> list[tuple[bytes, bytes]]:
    """Headers as they are sent: those of `more` in the place of `own` ones. Shared: not to be changed."""
    told = {**dict(own), "etag": etag, **dict(more)}
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in told.items()]


def _typed(media: str) -> str:
    return media + "; charset=utf-8" if media == formats.CSV else media


class Cache:
    """Rendered answers, the longest unused leaving first. Used from the event loop alone."""

    def __init__(self, room: int = ROOM) -> None:
        self._room, self._used = room, 0
        self._kept: OrderedDict[tuple[object, ...], tuple[Rendered, float]] = OrderedDict()

    def get(self, name: tuple[object, ...]) -> tuple[Rendered, float] | None:
        """What is kept of the name, and since when it is known that it may be given."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def put(self, name: tuple[object, ...], rendered: Rendered, now: float) -> None:
        """Keep it, where it takes at most a quarter of the room."""
        self.drop(name)
        if len(rendered.body) > self._room // 4:
            return
        self._kept[name] = (rendered, now)
        self._used += len(rendered.body)
        while self._used > self._room:
            _, (old, _) = self._kept.popitem(last=False)
            self._used -= len(old.body)

    def drop(self, name: tuple[object, ...]) -> None:
        """Keep it no longer."""
        old = self._kept.pop(name, None)
        if old is not None:
            self._used -= len(old[0].body)


def catalogue(city: City, tables: Mapping[str, Schema]) -> dict[str, Rendered]:
    """The catalogue by domain, and under "" the whole."""
    labels = {e.schema.name: e for e in entries()}
    shown = []
    for name, schema in tables.items():
        entry = labels.get(name)
        label = None if entry is None else {"en": entry.label.en, "ja": entry.label.ja}
        columns = [{"name": n, **c.document()} for n, c in schema.items]
        shown.append({
            "name": name, "domain": schema.domain, "kind": schema.kind, "digest": schema.digest.hex(), "label": label,
            "columns": columns, "keys": [[k.document() for k in ks] for ks in schema.key_sets],
        })  # fmt: skip
    purposes = [city.purpose(p).document() for p in city.purposes]
    head = {"city": str(city.id), "trust": city.trust.name, "purposes": purposes}
    return {
        domain: Rendered.made(
            json.dumps(
                {**head, "tables": [s for s in shown if domain in ("", s["domain"])]}, ensure_ascii=False
            ).encode(),
            formats.JSON,
            {"vary": "authorization"},
        )
        for domain in ("", *DOMAINS)
    }
