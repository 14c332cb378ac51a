"""Enrolment tokens over HTTP: one for each resident on the city's roll and each task. docs/spec/enrolment.md"""

from __future__ import annotations

from datasov.aggregator.state import State
from datasov.authority import issuing
from datasov.errors import InvalidDataError
from datasov.mpc.task import check_open


def issue(me: State, body: bytes) -> bytes:
    """Answer requests for tokens of one task that is open: an answer to each, or a text that says why there is none.

    A device asks alone. A relay may bring the requests of up to 64 together: they are answered under one proof.

    Raises:
        InvalidDataError: no such task, over, or one that asks for no tokens.
        VerificationError: bytes of another form.
    """
    identifier, requests = issuing.read(body)
    task = me.task(identifier)
    check_open(task, me.now())
    if not task.token:
        raise InvalidDataError("this task asks for no enrolment tokens: answer it without")
    return issuing.told(me.issuer(task.city).issue(task.id, task.epoch, requests))
