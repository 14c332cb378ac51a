"""Strict reading of the fields of a decoded document: the exact type, the exact set of labels, a bounded size.

`True` equals 1 in Python, so types are compared exactly: a boolean is never taken for an integer or for a label.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from datasov.errors import VerificationError
from datasov.model.privacy import MAX_DELTA, MAX_NANO, Loss

MAX_TIME = 253_402_300_799
"""The last second of the year 9999, in Unix time."""

_LOSS = {4: "add-remove", 5: "resident"}
_MEASURE, _NANO, _DELTA = 1, 2, 3


def labelled(value: object, required: Collection[int], optional: Collection[int] = ()) -> dict[int, Any]:
    """A map whose integer labels are the required ones and any of the optional ones; VerificationError otherwise."""
    if type(value) is not dict or not all(type(label) is int for label in value):
        raise VerificationError("not a map with integer labels: these bytes are not of this format")
    labels = set(value)
    if not set(required) <= labels:
        raise VerificationError("a field is missing: ask the sender for a document of this version")
    if not labels <= set(required) | set(optional):
        raise VerificationError("an unknown field: ask the sender for a document of this version")
    return value


def integer(value: object, low: int, high: int) -> int:
    """A whole number in [low, high]; VerificationError otherwise."""
    if type(value) is not int or not low <= value <= high:
        raise VerificationError("a number is missing or out of its range: these bytes are not of this format")
    return value


def text(value: object, most: int) -> str:
    """A printable text of 1 to `most` characters; VerificationError otherwise."""
    if type(value) is not str or not 1 <= len(value) <= most or not value.isprintable():
        raise VerificationError("a text is missing, too long or not printable: these bytes are not of this format")
    return value


def octets(value: object, length: int) -> bytes:
    """Exactly `length` bytes; VerificationError otherwise."""
    if type(value) is not bytes or len(value) != length:
        raise VerificationError("a byte string is missing or of a wrong length: these bytes are not of this format")
    return value


def blob(value: object, most: int) -> bytes:
    """At most `most` bytes; VerificationError otherwise."""
    if type(value) is not bytes or len(value) > most:
        raise VerificationError("a byte string is missing or too long: these bytes are not of this format")
    return value


def items(value: object, least: int, most: int) -> Sequence[Any]:
    """A list of `least` to `most` items; VerificationError otherwise."""
    if type(value) is not list or not least <= len(value) <= most:
        raise VerificationError("a list is missing, too short or too long: these bytes are not of this format")
    return value


def name(value: object) -> str:
    """The name of a table or a column; VerificationError otherwise."""
    word = text(value, 64)
    if not word.isidentifier() or word.startswith("_"):
        raise VerificationError("not a name of a table or a column: these bytes are not of this format")
    return word


def distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values, no two equal; VerificationError otherwise."""
    if len(set(values)) != len(values):
        raise VerificationError("an entry stands twice: these bytes are not of this format")
    return tuple(values)


def loss_map(loss: Loss) -> dict[int, Any]:
    """A loss with its measure, delta, adjacency and unit of privacy, so that none is left to the reader's guess."""
    return {_MEASURE: loss.measure, _NANO: loss.nano, _DELTA: loss.delta, **_LOSS}


def read_loss(value: object) -> Loss:
    """The loss of a map from :func:`loss_map`, above zero; VerificationError otherwise."""
    found = labelled(value, (_MEASURE, _NANO, _DELTA, *_LOSS))
    if any(type(found[label]) is not type(fixed) or found[label] != fixed for label, fixed in _LOSS.items()):
        raise VerificationError("a loss of another adjacency or unit: only losses per resident are read")
    measure = found[_MEASURE]
    if type(measure) is not str or measure not in ("zcdp", "pure"):
        raise VerificationError("a loss of another measure: only zCDP and pure epsilon are read")
    delta = integer(found[_DELTA], 0, MAX_DELTA if measure == "zcdp" else 0)
    return Loss(integer(found[_NANO], 1, MAX_NANO), "zcdp" if measure == "zcdp" else "pure", delta)
