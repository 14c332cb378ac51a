"""What a device's entity means for a table: which attribute goes into which column, in which unit, and when it was."""

from __future__ import annotations

import json
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from datasov import catalogue
from datasov.errors import DatasovError, InvalidDataError
from datasov.model.columns import Timestamp
from datasov.model.derived import Duration, microseconds
from datasov.model.schema import Schema


@dataclass(frozen=True, slots=True)
class Field:
    """Where a column's value comes from.

    Attributes:
        unit: what a value without a unit of its own is in: a code of UN/CEFACT, or as schemas write it. "": a value
            of a column with a unit must say its own.
        difference: the attribute is a meter's total: the value is what it grew by since the reading before.
        values: for a Category, what the attribute's texts are called there; others are taken as they are.
    """

    attribute: str
    unit: str = ""
    difference: bool = False
    values: Map[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mapping:
    """From entities of one type to rows of one table.

    Attributes:
        at: the Timestamp column. It takes when the value was observed (NGSI-LD's observedAt, or metadata of NGSIv2),
            else the entity's `dateObserved` or `TimeInstant`.
        fixed: values of columns that no attribute gives.
        only: attributes that must have these values; other entities are refused.
        longest: of a difference. A longer one would put hours of use into one row: it begins anew instead.
        zone: in which times without an offset are; "": they are refused.

    Raises:
        InvalidDataError: a column that the table lacks, or one that nothing gives.
    """

    type: str
    schema: Schema
    at: str
    fields: Map[str, Field]
    fixed: Map[str, object] = field(default_factory=dict)
    only: Map[str, str] = field(default_factory=dict)
    longest: Duration = "1h"
    zone: str = ""

    def __post_init__(self) -> None:
        columns = dict(self.schema.stored)
        given = {self.at, *self.fields, *self.fixed}
        if not given <= set(columns):
            raise InvalidDataError(f"the mapping names columns that table {self.schema.name!r} lacks")
        missing = [n for n, c in columns.items() if n not in given and not c.nullable]
        if missing or not isinstance(columns[self.at], Timestamp) or not self.fields:
            raise InvalidDataError(
                f"the mapping gives no value for {', '.join(missing) or 'a time or a measure'}: name an attribute"
            )
        microseconds(self.longest)
        if self.zone:
            Timestamp("1970-01-01", "1970-01-02", zone=self.zone)

    def assuming(self, unit: str) -> Mapping:
        """The same, where values without a unit of their own are in this one."""
        return replace(self, fields=MappingProxyType({n: replace(f, unit=unit) for n, f in self.fields.items()}))


def meter() -> Mapping:
    """SmartMeteringObservation (dataModel.Device) of electricity into the catalogue's table `electricity`.

    Its `totalConsumption` is a total since the meter was installed: a row has the difference of two. What is fed into
    the grid it does not tell: `fed` is 0, which is wrong for who has solar panels; give a mapping of your own then.
    """
    return Mapping(
        "SmartMeteringObservation", catalogue.schema("electricity"), "at",
        {"kwh": Field("totalConsumption", difference=True)}, fixed={"fed": "0"}, only={"meterType": "Electricity"},
    )  # fmt: skip


def from_document(doc: Map[str, Any]) -> Mapping:
    """A mapping from JSON: the attributes of :class:`Mapping`, with `table` for one of the catalogue or `schema`, a
    document, and each of `fields` an object with the attributes of :class:`Field`.

    Raises:
        InvalidDataError: it is none.
    """
    try:
        rest = dict(doc)
        table, written = rest.pop("table", None), rest.pop("schema", None)
        if (table is None) == (written is None):
            raise InvalidDataError("a mapping names a table of the catalogue, or has a schema: one of the two")
        schema = catalogue.schema(table) if written is None else Schema.from_document(written)
        fields = {column: Field(**told) for column, told in rest.pop("fields").items()}
        return Mapping(schema=schema, fields=fields, **rest)
    except DatasovError as why:
        raise InvalidDataError(f"the mapping does not fit: {why}") from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InvalidDataError("the mapping lacks a part, or has one that is not known: see docs/ngsi.md") from None


def read_mapping(text: bytes) -> Mapping:
    """A mapping from JSON text; InvalidDataError where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidDataError("the mapping is no JSON") from None
    if not isinstance(found, Map):
        raise InvalidDataError("a mapping is one JSON object")
    return from_document(found)
