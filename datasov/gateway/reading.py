"""What a request says, under what its operation declares: parameters, and a body of bounded size, time and depth."""

from __future__ import annotations

import asyncio
import decimal
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from starlette.requests import ClientDisconnect, Request

from datasov.gateway.operation import Operation, Parameter
from datasov.gateway.problems import ProblemError

DEPTH = 32
"""Arrays and objects within each other in a JSON body."""
FREE = 64 * 1024
"""Bytes of each body that are not counted, so that large ones never keep out questions and small letters."""


@dataclass(frozen=True, slots=True)
class Form:
    """An operation's schemas, ready to check with."""

    operation: Operation
    parameters: tuple[tuple[Parameter, Callable[[Any], bool]], ...]
    queries: frozenset[str]
    bodies: Mapping[str, Draft202012Validator | None]

    @staticmethod
    def of(operation: Operation, components: Mapping[str, Any]) -> Form:
        """The form of an operation, whose schemas may refer to `#/components/schemas/NAME`."""

        def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
            return Draft202012Validator({**schema, "components": {"schemas": components}})

        return Form(
            operation,
            tuple((p, _short(validator(p.schema))) for p in operation.parameters),
            frozenset(p.name for p in operation.parameters if p.where == "query"),
            {media: validator(schema) if schema else None for media, schema in operation.body.items()},
        )


def parameters(form: Form, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of the path, and those of the query and the headers.

    Raises:
        ProblemError: 400, one is missing, twice, unknown, or none of its schema; 404 where it is the path's.
    """
    path, others = dict[str, Any](), dict[str, Any]()
    given, declared = request.query_params.multi_items() if request.scope["query_string"] else [], form.queries
    if len(given) != len({n for n, _ in given}) or not declared.issuperset(n for n, _ in given):
        raise invalid(f"the query takes {', '.join(sorted(declared)) or 'no parameters'}, each at most once")
    texts = dict(given)
    for parameter, valid in form.parameters:
        name, into = parameter.name, path if parameter.where == "path" else others
        if parameter.where == "header" and len(request.headers.getlist(name)) > 1:
            raise invalid(f"the header {name} stands twice: send it once")
        source: Mapping[str, str] = (
            texts
            if parameter.where == "query"
            else request.path_params
            if parameter.where == "path"
            else request.headers
        )
        text = source.get(name)
        if text is None:
            if parameter.required:
                raise invalid(f"{name} is missing: {parameter.description}")
            if "default" in parameter.schema:
                into[name] = parameter.schema["default"]
            continue
        into[name] = _value(text, parameter)
        if not valid(into[name]):
            if parameter.where == "path":
                raise ProblemError("not-found", f"there is nothing of this {name}: it is {parameter.description}")
            raise invalid(f"{name} is not as it should be: {parameter.description}")
    return path, others


def _short(validator: Draft202012Validator) -> Callable[[Any], bool]:
    """Whether a value is valid, remembered for the last short texts: the same identifiers are asked for again."""
    remembered = lru_cache(maxsize=1024)(validator.is_valid)

    def valid(value: Any) -> bool:
        return remembered(value) if isinstance(value, str) and len(value) <= 64 else bool(validator.is_valid(value))

    return valid


def _value(text: str, parameter: Parameter) -> Any:
    kind = parameter.schema.get("type")
    try:
        if kind == "integer" and len(text) <= 20 and text.isascii():
            return int(text)
        if kind == "number" and len(text) <= 32 and text.isascii():
            return float(text)
    except ValueError:
        return text
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text


async def body(
    form: Form, request: Request, seconds: float, take: Callable[[int], object]
) -> tuple[bytes, Any]:  # fmt: skip
    """The body's bytes, and what it says where it is JSON.

    Args:
        take: told of bytes that are in memory, beyond the first 64 KiB; it raises ProblemError where there is no room.

    Raises:
        ProblemError: 408, 413, 415, or 400 where it is not of the operation's schema.
    """
    operation = form.operation
    if not operation.body:
        return b"", None
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ProblemError("unsupported-media-type", "a body is taken as it is: do not compress it")
    data = await _bytes(request, operation.most, seconds, take)
    if not data and not operation.body_required:
        return b"", None
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in form.bodies:
        raise ProblemError("unsupported-media-type", f"send the body as {', '.join(form.bodies)}")
    if "json" not in media:
        return data, None
    document = document_of(data)
    validator = form.bodies[media]
    if validator is not None:
        check(validator, document)
    return data, document


async def _bytes(request: Request, most: int, seconds: float, take: Callable[[int], object]) -> bytes:
    too_large = ProblemError(
        "too-large", f"the body has at most {most:,} bytes: send a smaller one", {"connection": "close"}
    )
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16) or int(length) > most:
        raise too_large
    data, told = bytearray(), FREE
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most:
                    raise too_large
                if len(data) > told:
                    take(len(data) - told)
                    told = len(data)
    except TimeoutError:
        raise ProblemError(
            "request-timeout", f"the body did not arrive within {seconds:g} s", {"connection": "close"}
        ) from None
    except ClientDisconnect:
        raise invalid("the body did not arrive") from None
    return bytes(data)


def document_of(data: bytes) -> Any:
    """What a JSON text (RFC 8259, in UTF-8) says: numbers with a point as exact decimals, no member twice.

    Raises:
        ProblemError: 400, it is none, or is nested deeper than 32.
    """
    try:
        found = json.loads(
            data.decode(), parse_float=decimal.Decimal, parse_constant=_refuse, object_pairs_hook=_members
        )  # fmt: skip
    except RecursionError:
        raise _deep() from None
    except (ValueError, decimal.InvalidOperation):
        raise invalid("the body is no JSON: check it with any JSON reader (members stand once, NaN is none)") from None
    level, seen = [found], 0
    while level:
        seen += 1
        if seen > DEPTH:
            raise _deep()
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return found


def _deep() -> ProblemError:
    return invalid(f"the body is nested too deeply: at most {DEPTH} arrays and objects within each other")


def _refuse(text: str) -> None:
    raise ValueError(text)


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def check(validator: Draft202012Validator, document: Any) -> None:
    """Raise ProblemError (400), which names the place and what it takes and never what stands there, unless valid."""
    if validator.is_valid(document):
        return
    fault = best_match(validator.iter_errors(document))
    if fault is None:
        return
    place = "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in fault.absolute_path)
    wanted = json.dumps(fault.validator_value, ensure_ascii=False, default=str)
    said = f"{fault.validator}: {wanted}" if len(wanted) <= 200 else f"its schema's {fault.validator}"
    if fault.validator == "required" and isinstance(fault.instance, Mapping):
        said = "members that are missing: " + ", ".join(n for n in fault.validator_value if n not in fault.instance)
    if fault.validator == "additionalProperties":
        said = "no other members than " + ", ".join(fault.schema.get("properties", {}))
    if fault.validator in ("anyOf", "oneOf"):
        said = "one of several forms, and has none of them: see its schema in /openapi.json"
    raise invalid(f"at {place[:200]} the body takes {said[:600]}")


def invalid(detail: str) -> ProblemError:
    """400: the request is not of the form that the operation takes."""
    return ProblemError("invalid-request", detail)


def texts(value: Any) -> Any:
    """The document with decimals as texts: one that has a canonical form."""
    if isinstance(value, dict):
        return {name: texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [texts(item) for item in value]
    return f"decimal:{value}" if isinstance(value, decimal.Decimal) else value
