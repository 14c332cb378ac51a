"""Templates: the questions that a programme allows, as lists to be read by people and checked by equality.

A question is within a template iff each of its parts is one of those listed: every key, every aggregate, every column
of its `where`, every derived column, and its bounds are at most those given. Nothing is inferred from anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast, get_args

from datasov.model.aggregate import Aggregate, AggregateKind
from datasov.model.charter import exactly, listed, malformed, plain, whole
from datasov.model.derived import Exists
from datasov.model.document import Document
from datasov.model.plan import Request
from datasov.model.schema import Key

MAX_PARTS, MAX_BOUND = 256, 65_535


@dataclass(frozen=True, slots=True)
class Allowed:
    """An aggregate that may be asked for. Clips, shares of quantiles and bins are free within the column's bounds.

    Attributes:
        column: "" counts rows. per: what is one item, as in an aggregate's document.
    """

    kind: AggregateKind
    column: str = ""
    per: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "column": self.column, "per": list(self.per)}

    @staticmethod
    def of(aggregate: Aggregate) -> Allowed:
        return Allowed(aggregate.kind, aggregate.column, aggregate.per)


@dataclass(frozen=True, slots=True)
class Template:
    """Questions about a programme's first table.

    Attributes:
        keys: a question groups by any of these, each as it stands here (bins with their cuts).
        aggregates: it asks for any of these.
        where: columns, as `column` or `table.column`, that its `where` may read, with any values. A series' column of
            times is one of them.
        derived: of the columns that it reads, those that a vault computes from another table.
        rows, bound_keys: the largest bounds of one resident's part.
        top: the most keys of a `top`; 0: none.
        steps: the most steps of a series; 0: no series.
    """

    keys: tuple[Key, ...]
    aggregates: tuple[Allowed, ...]
    where: tuple[str, ...]
    derived: tuple[str, ...]
    rows: int
    bound_keys: int
    top: int = 0
    steps: int = 0

    def document(self) -> dict[str, Any]:
        return {
            "keys": [k.document() for k in self.keys], "aggregates": [a.document() for a in self.aggregates],
            "where": list(self.where), "derived": list(self.derived), "rows": self.rows,
            "bound_keys": self.bound_keys, "top": self.top, "steps": self.steps,
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Document) -> Template:
        """The template of a document; InvalidQueryError unless it is one in all its parts."""
        names = ("keys", "aggregates", "where", "derived", "rows", "bound_keys", "top", "steps")
        found = exactly(doc, names, "a template")
        try:
            keys = tuple(Key.from_document(k) for k in listed(found["keys"], MAX_PARTS, "keys"))
        except (KeyError, TypeError):
            raise malformed("a key of its template is none") from None
        made = Template(
            keys, tuple(_allowed(a) for a in listed(found["aggregates"], MAX_PARTS, "aggregates")),
            tuple(plain(c, 129, "a column") for c in listed(found["where"], MAX_PARTS, "where")),
            tuple(plain(c, 129, "a column") for c in listed(found["derived"], MAX_PARTS, "derived")),
            *(whole(found[n], 1, MAX_BOUND, n) for n in ("rows", "bound_keys")),
            *(whole(found[n], 0, MAX_BOUND, n) for n in ("top", "steps")),
        )  # fmt: skip
        if made.document() != dict(found):
            raise malformed("a part of its template is not written in its one form")
        return made


def _allowed(doc: object) -> Allowed:
    found = exactly(doc, ("kind", "column", "per"), "an aggregate")
    if found["kind"] not in get_args(AggregateKind) or not isinstance(found["column"], str):
        raise malformed("an aggregate of its template is not known")
    per = listed(found["per"], MAX_PARTS, "per")
    if not all(isinstance(p, str) for p in per):
        raise malformed("per is a list of texts")
    return Allowed(cast(AggregateKind, found["kind"]), found["column"], tuple(per))


def within(template: Template, request: Request) -> str | None:
    """Why a question is not one of the template's; None where it is. Which tables it reads is checked elsewhere."""
    query, plan, series = request.plan.query, request.plan, request.series
    for key in query.key_list:
        if key not in template.keys:
            return f"its template does not list the key {key.name!r}"
    for aggregate in query.aggregates:
        if Allowed.of(aggregate) not in template.aggregates:
            return f"its template does not list the aggregate {aggregate.name!r}"
    compared = query.predicate.columns() if query.predicate is not None else frozenset[str]()
    compared |= {series.at} if series is not None else set()
    for column in sorted(compared - set(template.where)):
        return f"its template lets no where read {column!r}"
    for column in sorted(query.columns() | compared):
        if isinstance(query.column(column), Exists) and column not in template.derived:
            return f"its template does not list the derived column {column!r}"
    rows = max(plan.rows, query.rows or 0, series.rows if series is not None else 0)
    if rows > template.rows or max(plan.keys, query.keys_bound or 0) > template.bound_keys:
        return f"its template bounds a resident's part by rows={template.rows}, keys={template.bound_keys}"
    if (query.highest or 0) > template.top:
        return "its template does not list a top of so many"
    if series is not None and series.steps > template.steps:
        return "its template does not list a series of so many steps"
    return None
