"""Enrolment tokens over HTTP: one for each resident on the city's roll and each task. docs/spec/enrolment.md"""

from __future__ import annotations

from datasov.aggregator.state import State
from datasov.authority.credential import MAX_REQUEST
from datasov.crypto.oprf import MAX_BATCH
from datasov.errors import InvalidDataError
from datasov.mpc.task import check_open
from datasov.wire import cbor, fields


def issue(me: State, body: bytes) -> bytes:
    """Answer requests for tokens of one task that is open: an answer to each, or a text that says why there is none.

    A device asks alone. A relay may bring the requests of up to 64 together: they are answered under one proof.

    Raises:
        InvalidDataError: no such task, over, or one that asks for no tokens.
        VerificationError: bytes of another form.
    """
    identifier, requests = fields.items(cbor.decode(body), 2, 2)
    task = me.task(fields.octets(identifier, 32))
    check_open(task, me.now())
    if not task.token:
        raise InvalidDataError("this task asks for no enrolment tokens: answer it without")
    asked = [fields.blob(request, MAX_REQUEST) for request in fields.items(requests, 1, MAX_BATCH)]
    found = me.issuer(task.city).issue(task.id, task.epoch, asked)
    return cbor.encode([each if isinstance(each, bytes) else str(each) for each in found])
