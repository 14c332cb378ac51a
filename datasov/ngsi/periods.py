"""The time that a number tells of, with its local date and zone apart: brokers turn every DateTime into UTC."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from datasov.model.columns import Timestamp
from datasov.model.query import Query


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` to `end` (exclusive), both aware, in the local zone."""

    begin: dt.datetime
    end: dt.datetime


def utc(moment: dt.datetime | int) -> str:
    """A time as brokers keep it, with milliseconds and Z; of a number, Unix seconds."""
    when = dt.datetime.fromtimestamp(moment, dt.UTC) if isinstance(moment, int) else moment.astimezone(dt.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(moment: dt.datetime) -> str:
    """A local time with its offset, for an attribute of type Text."""
    return moment.isoformat(timespec="seconds")


def zone_of(query: Query, default: str) -> str:
    """The zone of the first Timestamp of a question's table."""
    zones = (column.zone for _, column in query.schema.items if isinstance(column, Timestamp))
    return next(zones, default)


def period_of(query: Query, values: Sequence[object]) -> Period | None:
    """The local day, week or month among a cell's keys, or the hour of that day; None where no key is one."""
    keyed = list(zip(query.key_list, values, strict=False))
    for key, value in keyed:
        column = query.column(key.column)
        if (
            key.kind not in ("day", "week", "month")
            or not isinstance(value, dt.date)
            or not isinstance(column, Timestamp)
        ):
            continue
        begin, zone = dt.datetime(value.year, value.month, value.day), ZoneInfo(column.zone)
        if key.kind == "month":
            end = begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
        else:
            end = begin + dt.timedelta(days=7 if key.kind == "week" else 1)
        hours = [v for k, v in keyed if k.kind == "hour" and k.column == key.column and isinstance(v, int)]
        if key.kind == "day" and hours:
            begin += dt.timedelta(hours=hours[0])
            end = begin + dt.timedelta(hours=1)
        return Period(begin.replace(tzinfo=zone), end.replace(tzinfo=zone))
    return None
