"""Instants as people write them."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from datasov.errors import InvalidQueryError


def instant(until: object, zone: str) -> int:
    """Unix seconds of an instant, or of the end of a day in a zone; InvalidQueryError where it is neither."""
    try:
        if isinstance(until, str):
            until = dt.date.fromisoformat(until) if len(until) == 10 else dt.datetime.fromisoformat(until)
        place = ZoneInfo(zone)
        if isinstance(until, dt.datetime):
            return int((until if until.tzinfo else until.replace(tzinfo=place)).timestamp())
        if isinstance(until, dt.date):
            return int(dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), place).timestamp())
    except (ValueError, KeyError, OverflowError, OSError):
        pass
    raise InvalidQueryError("until is a day like '2027-12-31' or a time like '2027-12-31T18:00+09:00', in a known zone")
