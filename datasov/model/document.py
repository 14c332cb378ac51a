"""Documents: nested dicts, lists, strings, integers, booleans and None, with one canonical text and one digest.

The canonical text is JSON with sorted keys, no white space and no floating-point numbers (the subset of RFC 8785 that
needs no number formatting), so that a digest never depends on the platform.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from datasov.errors import InternalError, InvalidQueryError
from datasov.model.mynumber import check_text

Document: TypeAlias = Mapping[str, Any]


def _check(value: object) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InternalError("a document's keys are strings")
            _check(item)
        return
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for item in value:
            _check(item)
        return
    raise InternalError(f"a document cannot hold a {type(value).__name__}")


def canonical(value: object) -> bytes:
    """The canonical text of a document, as UTF-8."""
    try:
        _check(value)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except RecursionError:
        raise InvalidQueryError("a document is nested too deeply: give one as it was written") from None
    except UnicodeEncodeError:
        raise InvalidQueryError("a text holds half of a surrogate pair: give whole Unicode characters") from None


def check_name(name: object, what: str) -> None:
    """Raise InvalidQueryError unless documents and tokens can carry the name of a table or a column."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or len(name) > 64:
        raise InvalidQueryError(
            f"a {what}'s name is a word of letters, digits and underscores that starts with a letter, at most 64 long"
        )
    check_text(name, f"the name of a {what}")


def digest(value: object) -> bytes:
    """SHA-256 of the canonical text: 32 bytes."""
    return hashlib.sha256(canonical(value)).digest()
