"""JSON Schemas (2020-12) of what the analysts' half of the gateway takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasov.gateway import problems

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WHERE_OPS = ("lt", "le", "gt", "ge", "eq", "ne")


def ref(name: str) -> dict[str, str]:
    """A reference to one of :data:`COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: list[str], properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object", "required": required, "properties": dict(properties), "additionalProperties": False, **more,
    }  # fmt: skip


_NAME = {"type": "string", "minLength": 1, "maxLength": 129, "description": "a column, or `table.column` of a join"}
_SCALAR = {"type": ["string", "number", "boolean"], "maxLength": 4096}
_NUMBER = {"type": ["string", "number"], "maxLength": 64}
_VALUE = {"type": ["string", "number"], "maxLength": 64, "description": "a number, or its exact text"}
_CUTS = {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": 1023}
_WHOLE = {"type": "integer", "minimum": 1, "maximum": 65_535}
_PER = {
    "description": "what is added up first: `resident`, or the rows of a resident that agree in a key",
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 129}, ref("TimeKey"), ref("BinKey")],
}
_SHARE = {"type": ["string", "number"], "maxLength": 16, "description": "above 0, below 1, at most four decimals"}
_CLIP = {"low": _VALUE, "high": _VALUE, "per": _PER}
_ROWS = {"type": "array", "items": {"type": "object"}}
_LOSS_NUMBER = {
    "type": ["string", "number"], "maxLength": 32, "pattern": "^[0-9]*[.]?[0-9]*([eE]-?[0-9]{1,3})?$",
    "description": "a decimal; a text keeps every digit: \"0.02\"",
}  # fmt: skip


def _statistic(name: str, also: Mapping[str, Any] | None = None, required: tuple[str, ...] = ()) -> dict[str, Any]:
    column = {"type": ["string", "null"], "maxLength": 129, "description": "a column; null adds 1 for each row"}
    return _object([name, *required], {name: column, **_CLIP, **(also or {})})


COMPONENTS: dict[str, Any] = {
    "Problem": problems.SCHEMA,
    "Loss": {
        "description": "what an answer costs: rho under zCDP, with a delta where keys are unknown; or a pure epsilon",
        "anyOf": [
            _object(["rho"], {"rho": _LOSS_NUMBER, "delta": _LOSS_NUMBER}),
            _object(["epsilon"], {"epsilon": _LOSS_NUMBER}),
        ],
    },
    "BinKey": _object(["bin", "cuts"], {"bin": _NAME, "cuts": _CUTS}, description="a column, parted at inner edges"),
    "TimeKey": {
        "description": "the local hour, day, week or month of a timestamp",
        "anyOf": [_object([unit], {unit: _NAME}) for unit in ("hour", "day", "week", "month")],
    },
    "Key": {
        "anyOf": [
            _NAME, ref("BinKey"), ref("TimeKey"),
            _object(["unknown"], {"unknown": _NAME}, description="keys that nobody lists: the loss needs a delta"),
        ],
    },
    "Predicate": {
        "anyOf": [
            *(_object(["column", op], {"column": _NAME, op: _SCALAR}) for op in _WHERE_OPS),
            _object(["column", "in"], {
                "column": _NAME, "in": {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": 10_000},
            }),
            _object(["column", "between"], {
                "column": _NAME, "between": {"type": "array", "items": _SCALAR, "minItems": 2, "maxItems": 2},
            }),
            _object(["column", "null"], {"column": _NAME, "null": {"type": "boolean"}}),
            *(_object([word], {word: {
                "type": "array", "items": ref("Predicate"), "minItems": 1, "maxItems": 256,
            }}) for word in ("and", "or")),
            _object(["not"], {"not": ref("Predicate")}),
        ],
    },
    "Statistic": {
        "anyOf": [
            {"type": "string", "enum": ["count", "distinct", "coverage"]},
            _object(["count", "per"], {"count": {"const": True}, "per": _PER}),
            *(_statistic(kind) for kind in ("sum", "mean", "variance", "std")),
            _statistic("median", {"bins": {"type": "integer", "minimum": 2, "maximum": 1024}}),
            _statistic("quantile", {
                "q": _SHARE, "edges": _CUTS, "bins": {"type": "integer", "minimum": 2, "maximum": 1024},
            }, ("q",)),
            *(_object([kind], {kind: _SHARE, "high": _WHOLE}) for kind in ("rows_per_key", "keys_per_resident")),
        ],
    },
    "Bound": _object([], {"rows": _WHOLE, "keys": _WHOLE}, description=(
        "at most `rows` rows of a resident in each key, in at most `keys` keys"
    )),
    "Question": _object(["table", "ask"], {
        "table": {"type": "string", "minLength": 1, "maxLength": 64, "description": "one of /v1/catalogue"},
        "join": {
            "type": "array", "items": {"type": "string", "maxLength": 64}, "maxItems": 15,
            "description": "attribute tables of the same residents, joined inside their vaults",
        },
        "keys": {"type": "array", "items": ref("Key"), "maxItems": 16},
        "where": ref("Predicate"),
        "bound": ref("Bound"),
        "ask": {"type": "array", "items": ref("Statistic"), "minItems": 1, "maxItems": 64},
        "top": {"type": "integer", "minimum": 1, "maximum": 1000},
    }, description="a bounded question, as docs/questions.md explains it"),
    "SqlQuestion": _object(["sql"], {
        "sql": {"type": "string", "minLength": 1, "maxLength": 65_536, "description": "one SELECT, as in docs/sql.md"},
        "bound": ref("Bound"),
    }, description="the same as SQL"),
    "SeriesQuestion": _object(["question", "every", "rows"], {
        "question": ref("Question"),
        "every": {"type": "string", "maxLength": 32, "description": "length of a step: 1d, 1h, 7d"},
        "rows": {**_WHOLE, "description": "of a resident, at most so many count over the whole horizon"},
        "at": {"type": "string", "maxLength": 64, "description": "the column of times, where the table has several"},
        "start": {"type": "string", "maxLength": 64, "description": "of the first step; the column's beginning"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 16_384},
        "delay": {"type": "string", "maxLength": 32, "description": "how long a step waits for late rows"},
    }, description="one count or sum, told anew after every step; `bound` is left out"),
}  # fmt: skip

_ASKED = {"question": {"anyOf": [ref("Question"), ref("SqlQuestion")]}, "loss": ref("Loss")}
_PURPOSE = {"type": "string", "minLength": 1, "maxLength": 256, "description": "one of those in /v1/catalogue"}
_PROGRAMME = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "identity of the approved programme"}

COMPONENTS |= {
    "PreviewRequest": _object(["loss"], {
        **_ASKED, "series": ref("SeriesQuestion"),
        "confidence": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    }, oneOf=[{"required": ["question"]}, {"required": ["series"]}]),
    "ReleaseRequest": _object(["question", "loss", "purpose"], {
        **_ASKED, "purpose": _PURPOSE, "programme": _PROGRAMME,
        "as_of": {"type": "integer", "minimum": 0, "description": "a data epoch: an earlier one finds, and asks not"},
    }),
    "SeriesRequest": _object(["series", "loss", "purpose"], {
        "series": ref("SeriesQuestion"), "loss": ref("Loss"), "purpose": _PURPOSE, "programme": _PROGRAMME,
    }),
    "CollectionRequest": _object(["question", "loss", "purpose", "until"], {
        **_ASKED, "purpose": _PURPOSE, "programme": _PROGRAMME,
        "until": {
            "type": "string", "minLength": 1, "maxLength": 64,
            "description": "the last day, to its end, or an instant: 2027-12-31, 2027-12-31T18:00:00+09:00",
        },
        "zone": {"type": "string", "minLength": 1, "maxLength": 64, "description": "of `until`; Asia/Tokyo"},
        "every": {
            "type": "integer", "minimum": 0, "maximum": 2**31,
            "description": "under local trust, data epochs after which devices noise their answer anew; 0: never",
        },
    }),
    "Collection": _object([
        "id", "state", "table", "purpose", "programme", "loss", "epoch", "opened", "until", "trust", "release",
    ], {
        "id": {"type": "string"}, "state": {"enum": ["open", "ended", "released"]}, "table": {"type": "string"},
        "purpose": {"type": "string"}, "programme": {"type": "string"}, "loss": ref("LossShown"),
        "epoch": {"type": "integer"}, "opened": {"type": "string", "format": "date-time"},
        "until": {"type": "string", "format": "date-time"}, "trust": {"type": "string"},
        "question": {"type": "object", "description": "of one that is asked for by its id"},
        "release": {"type": ["string", "null"], "description": "identifier of the answer, where it is there and kept"},
    }, description="a question to devices: `ended` ones are released by POST /v1/releases"),
    "CollectionList": _object(["collections", "next"], {
        "collections": {"type": "array", "items": ref("Collection")},
        "next": {"type": ["integer", "null"], "description": "give it as `before` for the next page"},
    }),
    "LossShown": _object(["measure", "delta"], {
        "measure": {"enum": ["zcdp", "pure"]}, "rho": {"type": "string"}, "epsilon": {"type": "string"},
        "delta": {"type": "string"},
    }, description="exact decimals"),
    "Energy": _object(["model", "joules", "joules_per_1000_residents"], {
        "model": {"type": "string"}, "joules": {"type": "number"}, "joules_per_1000_residents": {"type": "number"},
    }, description="estimated from the question and public sizes alone, never measured"),
    "Preview": _object(["loss", "confidence", "cells", "statistics", "notes", "energy"], {
        "energy": ref("Energy"),
        "loss": ref("LossShown"), "confidence": {"type": "number"}, "cells": {"type": "integer"},
        "statistics": {"type": "array", "items": _object(["statistic", "sigma", "margin"], {
            "statistic": {"type": "string"}, "sigma": {"type": "number"}, "margin": {"type": "number"},
        })},
        "notes": {"type": "array", "items": {"type": "string"}},
    }),
    "Release": _object([
        "id", "kind", "city", "table", "purpose", "programme", "loss", "trust", "mechanism", "epoch", "time",
        "confidence", "columns", "rows", "overall", "question", "digest",
    ], {
        "id": {"type": "string"}, "kind": {"enum": ["release", "series"]}, "city": {"type": "string"},
        "table": {"type": "string"}, "purpose": {"type": "string"}, "programme": {"type": "string"},
        "loss": ref("LossShown"), "trust": {"type": "string"}, "mechanism": {"type": "string"},
        "epoch": {"type": "integer"}, "time": {"type": "string", "format": "date-time"},
        "confidence": {"type": "number"}, "columns": {"type": "array", "items": {"type": "string"}},
        "rows": _ROWS, "overall": _ROWS, "question": {"type": "object"},
        "digest": {"type": "string", "description": "SHA-256 that the log's leaf carries, in hexadecimal"},
        "energy": ref("Energy"), "cohort": {"type": "integer"},
        "steps": {"type": "integer"}, "released_steps": {"type": "integer"},
    }, description="noised values with intervals; `rows` has a row a key, `overall` what was asked about the whole"),
    "ReleaseList": _object(["releases", "next"], {
        "releases": {"type": "array", "items": _object(
            ["id", "kind", "table", "purpose", "programme", "loss", "epoch", "time"], {
                "id": {"type": "string"}, "kind": {"enum": ["release", "series"]}, "table": {"type": "string"},
                "purpose": {"type": "string"}, "programme": {"type": "string"}, "loss": ref("LossShown"),
                "epoch": {"type": "integer"}, "time": {"type": "string", "format": "date-time"},
            })},
        "next": {"type": ["integer", "null"], "description": "give it as `before` for the next page"},
    }),
    "Budget": _object(["budget", "remaining", "allowance", "epoch", "programmes"], {
        "budget": ref("LossShown"), "remaining": ref("LossShown"), "epoch": {"type": "integer"},
        "allowance": {**ref("LossShown"), "description": "what may still be spent in this period"},
        "programmes": {"type": "array", "items": _object(["id", "name", "purpose", "remaining"], {
            "id": {"type": "string"}, "name": {"type": "string"}, "purpose": {"type": "string"},
            "remaining": ref("LossShown"),
        })},
    }),
    "Table": _object(["name", "domain", "kind", "digest", "label", "columns", "keys"], {
        "name": {"type": "string"}, "domain": {"type": "string"}, "kind": {"enum": ["events", "attributes"]},
        "digest": {"type": "string"}, "label": {"type": ["object", "null"]},
        "columns": {"type": "array", "items": {"type": "object"}},
        "keys": {"type": "array", "items": {"type": "array", "items": {"type": "object"}}},
    }),
    "Catalogue": _object(["city", "trust", "purposes", "tables"], {
        "city": {"type": "string"}, "trust": {"type": "string"},
        "purposes": {"type": "array", "items": {"type": "object"}},
        "tables": {"type": "array", "items": ref("Table")},
    }),
    "Health": _object(["status"], {"status": {"const": "ok"}}),
}  # fmt: skip


def standalone(name: str) -> dict[str, Any]:
    """A component as a schema of its own, with those that it refers to under `$defs`."""
    needed, todo = dict[str, Any](), [name]
    while todo:
        one = todo.pop()
        if one not in needed:
            needed[one] = _moved(COMPONENTS[one], todo)
    return {"$schema": DIALECT, "$id": f"/schemas/{name}", **needed.pop(name), "$defs": needed}


def _moved(value: Any, found: list[str]) -> Any:
    if isinstance(value, Mapping):
        if "$ref" in value:
            name = value["$ref"].rpartition("/")[2]
            found.append(name)
            return {**value, "$ref": f"#/$defs/{name}"}
        return {k: _moved(v, found) for k, v in value.items()}
    return [_moved(v, found) for v in value] if isinstance(value, list) else value
