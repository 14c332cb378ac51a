"""Programmes: what the council and the assembly approve, and whether it covers a question.

A programme names one question by its whole document, or a template of questions. Either way it names every table and
column that a question may read, in whatever place: key, aggregate, item, where, joined table, or behind a derived one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasov.model.charter import (
    DAY,
    exactly,
    instant,
    listed,
    loss_of,
    malformed,
    octets,
    plain,
    told,
    whole,
)
from datasov.model.cohort import missing
from datasov.model.consent import CityId, Coverage, check_place, check_purpose
from datasov.model.document import Document, canonical, check_name, digest
from datasov.model.plan import RESPONSE, Request
from datasov.model.privacy import Loss
from datasov.model.query import MAX_QUESTION, MAX_TABLES
from datasov.model.template import Template, within

PROGRAMME = "datasov programme v1"
MAX_COHORT, MAX_RETENTION = 1_000_000, 36_525
MECHANISMS = (
    "discrete Gaussian", "discrete Laplace", "discrete Gaussian, binary tree", "discrete Laplace, binary tree",
    "discrete Gaussian, thresholded", "noisy max (zcdp)", "noisy max (pure)", RESPONSE,
    f"discrete Laplace, {RESPONSE}",
)  # fmt: skip
TRUSTS = (
    "central", "two_server", "local", "mixed", "central+two_server", "central+local", "two_server+local",
    "central+two_server+local",
)  # fmt: skip
"""Names of trust models; "mixed" is several, whichever, and names with + between are those and no other."""


@dataclass(frozen=True, slots=True)
class Programme:
    """What was approved: which questions, for what, at what loss, over whom, where and how long.

    Attributes:
        city: as in the charter. charter: the version of the charter that it is approved under.
        name, version: what it is called; a later version of the same name takes its place.
        purpose: as in the consents.
        issued, not_before, expires: Unix seconds.
        emergency: it needs the emergency thresholds, and starts at once.
        tables: name, schema digest and all columns that a question may read, the question's own table first.
        question: the one question (a query's or a series' document), or None; template: those it covers, or None.
        mechanisms, trust: names of the mechanisms and of the trust models allowed (:data:`MECHANISMS`, :data:`TRUSTS`).
        largest, total: loss of one question, and of all together.
        period_days, period: in any so many days, counted from `not_before`, the most; (0, None) where there is none.
        cohort: cells with fewer noisy residents are withheld; 0 for none.
        processing: an ISO 3166 code: where the data may be processed.
        retention_days: so long may a release be answered from the store.
    """

    city: str
    charter: int
    name: str
    version: int
    purpose: str
    issued: int
    not_before: int
    expires: int
    emergency: bool
    tables: tuple[Coverage, ...]
    question: Mapping[str, Any] | None
    template: Template | None
    mechanisms: tuple[str, ...]
    trust: tuple[str, ...]
    largest: Loss
    total: Loss
    period_days: int
    period: Loss | None
    cohort: int
    processing: str
    retention_days: int

    def __post_init__(self) -> None:
        check_programme(self)

    def document(self) -> dict[str, Any]:
        """The programme as a document: what is signed is its canonical text."""
        return {
            "type": PROGRAMME, "city": self.city, "charter": self.charter, "name": self.name, "version": self.version,
            "purpose": self.purpose, "issued": told(self.issued), "not_before": told(self.not_before),
            "expires": told(self.expires), "emergency": self.emergency,
            "tables": [
                {"name": t.table, "schema": t.schema_digest.hex(), "columns": list(t.columns)} for t in self.tables
            ],
            "question": self.question, "template": self.template.document() if self.template else None,
            "mechanisms": list(self.mechanisms), "trust": list(self.trust), "largest": self.largest.document(),
            "total": self.total.document(), "period_days": self.period_days,
            "period": self.period.document() if self.period else None, "cohort": self.cohort,
            "processing": self.processing, "retention_days": self.retention_days,
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Document) -> Programme:
        """The programme of a document; InvalidQueryError unless it is one in all its parts."""
        names = (
            "type", "city", "charter", "name", "version", "purpose", "issued", "not_before", "expires", "emergency",
            "tables", "question", "template", "mechanisms", "trust", "largest", "total", "period_days", "period",
            "cohort", "processing", "retention_days",
        )  # fmt: skip
        found = exactly(doc, names, "a programme")
        if found["type"] != PROGRAMME:
            raise malformed(f"its type is not {PROGRAMME!r}")
        if type(found["emergency"]) is not bool:
            raise malformed("emergency is true or false")
        period, template = found["period"], found["template"]
        return Programme(
            city=plain(found["city"], 256, "city"), charter=whole(found["charter"], 1, 2**31, "charter"),
            name=plain(found["name"], 128, "name"), version=whole(found["version"], 1, 2**31, "version"),
            purpose=found["purpose"],
            issued=instant(found["issued"], "issued"), not_before=instant(found["not_before"], "not_before"),
            expires=instant(found["expires"], "expires"), emergency=found["emergency"],
            tables=tuple(_table(t) for t in listed(found["tables"], MAX_TABLES, "tables")),
            question=found["question"], template=None if template is None else Template.from_document(template),
            mechanisms=tuple(plain(m, 64, "a mechanism") for m in listed(found["mechanisms"], 16, "mechanisms")),
            trust=tuple(plain(t, 32, "a trust model") for t in listed(found["trust"], 8, "trust")),
            largest=loss_of(found["largest"], "largest"), total=loss_of(found["total"], "total"),
            period_days=whole(found["period_days"], 0, MAX_RETENTION, "period_days"),
            period=None if period is None else loss_of(period, "period"),
            cohort=whole(found["cohort"], 0, MAX_COHORT, "cohort"),
            processing=plain(found["processing"], 6, "processing"),
            retention_days=whole(found["retention_days"], 1, MAX_RETENTION, "retention_days"),
        )  # fmt: skip

    def refusal(self, request: Request) -> str | None:
        """Why a request is not what this programme approves, whenever it is asked; None where it is.

        It reads the request alone: the question, its plan, its loss, purpose and trust.
        """
        mechanism = request.mechanism
        if request.purpose != self.purpose:
            return "its purpose is another"
        if mechanism not in self.mechanisms:
            return f"it draws by {mechanism}, which the programme does not allow"
        if not {request.trust.name, "+".join(t.name for t in request.trust.each)} & set(self.trust):
            return "its trust model is another"
        if not fits(request.loss, self.largest):
            return "its loss is above the largest that the programme allows for one question"
        if (reading := self._reads(request)) is not None:
            return reading
        asked = request.series or request.plan.query
        if self.question is not None and digest(asked.document()) != digest(self.question):
            return "it is another question than the approved one"
        if self.template is not None and (escape := within(self.template, request)) is not None:
            return escape
        return missing(request.plan.query, request.series) if self.cohort else None

    def _reads(self, request: Request) -> str | None:
        allowed = {t.table: t for t in self.tables}
        asked = (request.series or request.plan.query).tables()
        if asked[0][0] != self.tables[0].table:
            return f"it is about table {asked[0][0]!r}, not {self.tables[0].table!r}"
        for name, schema, columns in asked:
            if name not in allowed or allowed[name].schema_digest != schema:
                return f"it reads table {name!r}, which the programme does not name under this schema"
            beyond = sorted(set(columns) - set(allowed[name].columns))
            if beyond:
                return f"it reads column {beyond[0]!r} of {name!r}, which the programme does not name"
        return None

    def purses(self, identity: bytes, now: int) -> tuple[tuple[str, Loss], ...]:
        """The accounts that a question at this time is charged to, with their caps."""
        whose = f"programme {identity.hex()}"
        found = [(f"the total of {whose}", self.total)]
        if self.period is not None:
            number = (now - self.not_before) // (self.period_days * DAY)
            found.append((f"period {number} of {whose}", self.period))
        return tuple(found)


def fits(loss: Loss, limit: Loss) -> bool:
    """Whether a loss is within a limit, also a pure one within one of zCDP, which it implies."""
    if loss.measure == limit.measure:
        return loss <= limit
    return limit.measure == "zcdp" and loss.concentrated <= limit


def _table(doc: object) -> Coverage:
    found = exactly(doc, ("name", "schema", "columns"), "a table")
    check_name(found["name"], "table")
    columns = listed(found["columns"], 1024, "columns")
    for column in columns:
        check_name(column, "column")
    return Coverage(found["name"], octets(found["schema"], "a schema"), tuple(columns))


def check_programme(programme: Programme) -> None:
    """Raise InvalidQueryError unless a programme's parts fit each other."""
    CityId.parse(programme.city)
    check_purpose(programme.purpose)
    names = [t.table for t in programme.tables]
    if not names or len(set(names)) < len(names) or any(len(set(t.columns)) < len(t.columns) for t in programme.tables):
        raise malformed("it names at least one table, and no table and no column twice")
    if not programme.issued <= programme.not_before < programme.expires:
        raise malformed("issued, not_before and expires ascend")
    if (programme.question is None) == (programme.template is None):
        raise malformed("it names one question or one template, and not both")
    if programme.question is not None:
        _check_question(programme.question, programme.tables[0])
    for what, values, known in (
        ("mechanism", programme.mechanisms, MECHANISMS), ("trust model", programme.trust, TRUSTS),
    ):  # fmt: skip
        if not values or not set(values) <= set(known) or len(set(values)) < len(values):
            raise malformed(f"it names each {what} once, of these: {'; '.join(known)}")
    if not fits(programme.largest, programme.total):
        raise malformed("one question may lose more than all together: raise total, or lower largest")
    if (programme.period is None) != (programme.period_days == 0):
        raise malformed("period_days and period are both given, or neither")
    if programme.period is not None and not (
        programme.period.measure == programme.total.measure and fits(programme.largest, programme.period)
    ):
        raise malformed("the loss of a period has the measure of the total, and holds at least one question")
    check_place(programme.processing)


def _check_question(question: object, table: Coverage) -> None:
    if not isinstance(question, Mapping) or question.get("schema") != table.schema_digest.hex():
        raise malformed("its question is a query's document about its first table")
    if len(canonical(question)) > MAX_QUESTION:
        raise malformed("its question is longer than 512 KiB")
