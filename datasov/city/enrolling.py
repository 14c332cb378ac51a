"""The roll of a city under local trust: who answers, and one token for each of them and each task.

The city checks its own tokens when they come with reports, and cannot tell whose they are. docs/spec/enrolment.md
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from datasov.authority import issuing
from datasov.authority.enrolment import Issuer, Roll
from datasov.city.state import State
from datasov.crypto import oprf
from datasov.errors import DatasovError, InvalidDataError, InvalidQueryError, VerificationError
from datasov.founding import ISSUER
from datasov.mpc.task import check_open
from datasov.upkeep.identity import issuer_secret

_PERSON = b"datasov city person v1 "


class Enrolling(State):
    """The part of :class:`datasov.City` that keeps a roll, where the city was founded with `enrol=True`."""

    @functools.cached_property
    def _issuer(self) -> tuple[bytes, Roll, Issuer]:
        secret = issuer_secret(self._settings, self._operator)
        if secret is None:
            raise InvalidQueryError("this city has no roll: one is founded with enrol=True, under local trust")
        roll = Roll(self._store)
        return secret, roll, Issuer(self._store, roll, issuing.issuer_key(secret, ISSUER), batch=oprf.MAX_BATCH)

    def enrol(self, people: Sequence[tuple[str, bytes]]) -> int:
        """Put people on the roll, or give those who are on it another key; how many places the roll has.

        Whoever is on it gets one token a task, and with it one report. Check outside of this library that a key is the
        person's, and that nobody is in your register twice.

        Args:
            people: what your register calls each, and their :meth:`datasov.Resident.enrolment_key`, 32 bytes. Of the
                name the store keeps a hash under the issuer's secret. Whoever has a new vault keeps their place.

        Raises:
            InvalidQueryError: the city was founded without a roll.
            InvalidDataError: a person or a key stands twice, or a key is another person's.
        """
        secret, roll, _ = self._issuer
        roll.enrol([(issuing.person(secret, _PERSON, who), key) for who, key in people])
        self._anchor()
        return len(roll)

    def strike(self, people: Sequence[str]) -> int:
        """Take people off the roll; tokens that they have stay good. As :meth:`enrol`."""
        secret, roll, _ = self._issuer
        roll.strike([issuing.person(secret, _PERSON, who) for who in people])
        self._anchor()
        return len(roll)

    def issue(self, task: bytes, requests: Sequence[bytes]) -> list[bytes | DatasovError]:
        """The answer to each request for a token of an open task, or why there is none; each stands alone.

        What was issued to whom is durable before an answer leaves: the same request gets its answer again, another one
        of the same person never does.

        Args:
            task: its identity, 32 bytes.

        Raises:
            InvalidDataError: the task is over, or asks for no tokens of this city.
            VerificationError: no task of this city.
        """
        found = next((known for _, known in self._tasks() if known.id == task), None)
        if found is None:
            raise VerificationError("no task of this city: see city.tasks()")
        check_open(found, int(self._clock()))
        if not found.issuer_key:
            raise InvalidDataError("this task asks for no enrolment tokens of the city: answer it without")
        _, _, issuer = self._issuer
        answers = issuer.issue(found.id, found.epoch, requests)
        self._anchor()
        return answers

    def tokens(self, body: bytes) -> bytes:
        """As :meth:`issue`, in the bytes that `resident.answer` posts: `[task, [request, ...]]`, 1 to 64 of them.

        Raises:
            As there; and VerificationError: bytes of another form.
        """
        return issuing.told(self.issue(*issuing.read(body)))
