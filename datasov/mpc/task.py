"""A task: a question that devices answer, for two servers or noised by themselves, as a document that the city signs.

Its identity is the hash of all that it says, and stands in the context of every share: a share made for one question,
circuit, noise, purpose or pair of aggregators is one for no other. docs/spec/two-server.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey, check_public
from datasov.errors import DatasovError, InvalidDataError, VerificationError
from datasov.kernel.plan import compile
from datasov.model.consent import CityId
from datasov.model.document import canonical
from datasov.model.plan import Plan, Request
from datasov.model.privacy import Loss, Trust
from datasov.model.query import Query, query_from_document
from datasov.model.schema import Schema
from datasov.mpc.fitting import Fit, fit
from datasov.mpc.permanent import Asked
from datasov.wire import cose

KIND = "datasov task v1"
SUBJECT = "task"
MOST_TASK = 1024 * 1024
"""Bytes of a signed task."""
TOKEN = 64
"""Bytes of an enrolment token, where a task asks for them."""


@dataclass(frozen=True)
class Task:
    """A question for devices, its noise, and who adds.

    Attributes:
        city: text of the id of the city that asks.
        opened, until: Unix seconds: reports are taken before `until`, and collected from then on.
        salt: 16 random bytes, so that no two tasks are one.
        purpose, programme, cohort, epoch: as in a request.
        renewal: under local trust, how many renewals of devices' reports came before (:func:`permanent.renewal`).
    """

    city: str
    query: Query
    loss: Loss
    purpose: str
    programme: str
    cohort: int
    epoch: int
    trust: Trust
    opened: int
    until: int
    salt: bytes
    renewal: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.opened < self.until < 2**63 or not (0 <= self.epoch < 2**63 and 0 <= self.cohort < 2**63):
            raise InvalidDataError("a task begins before it ends, and its numbers are not below zero")

    @cached_property
    def plan(self) -> Plan:
        """The compiled question: everybody compiles it anew."""
        return compile(self.query)

    @cached_property
    def fits(self) -> tuple[Fit, ...]:
        """A circuit for each statistic, where two servers add."""
        return fit(self.plan, self.loss) if self.trust.part("two_server") else ()

    @cached_property
    def asked(self) -> Asked | None:
        """The question to devices that noise their own answers, where there are any."""
        if self.trust.part("local") is None:
            return None
        return Asked(self.city, self.query, self.loss, self.purpose, self.renewal)

    @cached_property
    def share_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Bytes of the input share of each statistic: the leader's, the helper's."""
        leader, helper = list[int](), list[int]()
        for circuit in (found.vdaf.circuit for found in self.fits):
            blind = 32 if circuit.joint_rand_length else 0
            leader.append((circuit.length + circuit.proof_length) * circuit.field.size + blind)
            helper.append(32 + blind)
        return tuple(leader), tuple(helper)

    @property
    def token(self) -> int:
        """Bytes of the enrolment token beside each share: none where the trust's aggregators ask for none."""
        return TOKEN if any(a.issuer_key for a in self.trust.aggregators) else 0

    @property
    def issuer_key(self) -> bytes:
        """Of the city's own enrolment tokens, one with each noised report; empty where it asks for none."""
        part = self.trust.part("local")
        return b"" if part is None else part.issuer_key

    @cached_property
    def text(self) -> bytes:
        """The canonical text."""
        return canonical(self.document())

    @cached_property
    def id(self) -> bytes:
        """SHA-256 of the text, 32 bytes."""
        return sha256(self.text)

    def context(self, part: int) -> bytes:
        """What every derivation from a share of this statistic is bound to."""
        return b"datasov two servers v1" + self.id + part.to_bytes(2, "big")

    def document(self) -> dict[str, Any]:
        """All that it says; circuits and scales follow from the question, and stand here to be compared."""
        return {
            "city": self.city, "query": self.query.document(),
            "schemas": [s.document() for s in (self.query.schema, *self.query.profiles)],
            "circuits": [f.document() for f in self.fits], "mechanism": self.plan.mechanism(self.loss),
            "scales": [s.hex() for s in self.plan.scales(self.loss)], "loss": self.loss.document(),
            "purpose": self.purpose, "programme": self.programme, "cohort": self.cohort, "epoch": self.epoch,
            "trust": self.trust.document(), "opened": self.opened, "until": self.until, "salt": self.salt.hex(),
            **self._responses(),
        }  # fmt: skip

    def _responses(self) -> dict[str, Any]:
        if self.asked is None:
            return {}
        how = self.asked.fit.how
        return {"responses": [how.kind, how.categories, how.flip.hex()], "renewal": self.renewal}

    def request(self) -> Request:
        """The question as one of the city's, under whose key the release is stored."""
        return Request(
            self.plan, self.loss, self.purpose, self.trust, self.epoch, programme=self.programme, cohort=self.cohort
        )

    def signed(self, key: SigningKey) -> bytes:
        """As it is published: a COSE_Sign1 message of the city's key over the text."""
        return cose.sign1(self.text, key, KIND)


def read_task(data: bytes) -> Task:
    """The task of these bytes, signed by the key of the city that it names, and compiled anew to what it says.

    Raises:
        VerificationError: (or its subclasses) anything else. Whether that city is one to answer to, the caller knows.
    """
    if not isinstance(data, bytes) or len(data) > MOST_TASK:
        raise _not_one()
    payload = cose.parts1(data, KIND).payload
    try:
        doc = json.loads(payload)
        city = CityId.parse(doc["city"])
        check_public(city.verify_key)
        cose.open1(data, city.verify_key, KIND)
        schemas = [Schema.from_document(s) for s in doc["schemas"]]
        task = Task(
            city=str(city), query=query_from_document(doc["query"], {s.digest: s for s in schemas}),
            loss=Loss.from_document(doc["loss"]), purpose=str(doc["purpose"]), programme=str(doc["programme"]),
            cohort=int(doc["cohort"]), epoch=int(doc["epoch"]), trust=Trust.from_document(doc["trust"]),
            opened=int(doc["opened"]), until=int(doc["until"]), salt=bytes.fromhex(doc["salt"]),
            renewal=int(doc.get("renewal", 0)),
        )  # fmt: skip
        task.plan.losses(task.loss)
        same = task.text == payload and task.trust.name != "central" and len(task.salt) == 16
    except VerificationError:
        raise
    except (DatasovError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        raise _not_one() from None
    if not same:
        raise _not_one()
    return task


def check_open(task: Task, now: int) -> None:
    """InvalidDataError where the task takes no reports any more, or not yet."""
    if not task.opened - 86_400 <= now < task.until:
        raise InvalidDataError("the task takes no reports now: ask the city for the tasks that are open")


def _not_one() -> VerificationError:
    return VerificationError("not a task of this version: ask the city for the original bytes")
