"""All that the gateway answers without a token."""

from __future__ import annotations

from datasov.gateway import governance, page, public_log, receipts, residents, tasks
from datasov.gateway.operation import Operation


def operations() -> list[Operation]:
    """Of the log, residents, governance, receipts and the city's page."""
    rooms = (public_log, residents, tasks, governance, receipts, page)
    return [operation for room in rooms for operation in room.operations()]
