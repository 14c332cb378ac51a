"""What a city must do over its whole life, as a small model that the state machine of test_trace.py follows."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

import datasov as ds
from datasov.kernel.plan import compile
from datasov.model.consent import Consent
from tests.helpers import Row
from tests.naive import contributed
from tests.strategies import table

EVENTS = ds.Schema(
    "ev", domain="mobility", keys=[("cat",)],
    columns={"cat": ds.Category(["a", "b"], nullable=True), "num": ds.Integer(-3, 9), "flag": ds.Boolean()},
)  # fmt: skip
WHO = ds.Schema(
    "who", domain="administration", kind="attributes", columns={"ward": ds.Category(["x", "y"])},
)  # fmt: skip
_BASE = ds.query(EVENTS).bound(rows=2, keys=1)
QUESTIONS = [
    _BASE.keys("cat").count().sum("num"),
    _BASE.keys("cat").where(ds.col("num") > 1).distinct(),
    _BASE.join(WHO).keys("who.ward").mean("num"),
    _BASE.keys(ds.bin("num", [2]), "flag").count(),
    _BASE.keys("cat").where(ds.col("flag") == True).variance("num"),  # noqa: E712
]
LOSSES = [ds.zcdp(rho="0.01"), ds.zcdp(rho="0.02"), ds.pure(epsilon="0.1")]
UNITS = {"zcdp": LOSSES[0], "pure": LOSSES[2]}
"""What caps are multiples of, in each measure."""
BUDGET = ds.zcdp(rho="0.1")
NAMES = ["ann", "bob", "cem", "dai"]


@dataclass
class Member:
    """A resident as the city must see them: what they sent last, under which consent, and what it cost them so far."""

    rows: list[Row] = field(default_factory=list)
    profile: list[Row] = field(default_factory=list)
    consent: Consent | None = None
    columns: list[str] = field(default_factory=list)
    live: bool = False
    spent: dict[str, int] = field(default_factory=lambda: {"zcdp": 0, "pure": 0})
    most: dict[str, int] = field(default_factory=lambda: {"zcdp": 0, "pure": 0})


@dataclass
class Model:
    """Everything that a restart must find again."""

    members: dict[str, Member] = field(default_factory=lambda: {n: Member() for n in NAMES})
    spent: int = 0
    stored: dict[tuple[int, ds.Loss, int], bytes] = field(default_factory=dict)
    order: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def payers(self, question: int, loss: ds.Loss, now: int, key: bytes) -> dict[str, int]:
        """Whose live consent covers the question, in its measure, and holds what it costs them; that price in nano."""
        query = QUESTIONS[question]
        read = {c for c in query.columns() if "." not in c}
        found = {}
        for name, member in self.members.items():
            if member.consent is None or not member.live or now >= member.consent.claims.expires:
                continue
            joined = len(member.consent.claims.coverage) > 1
            covered = read <= set(member.columns) and (joined or not query.profiles)
            price = self.price(question, name, loss, key)
            cap = member.consent.claims.loss
            if covered and cap.measure == loss.measure and member.spent[loss.measure] + price <= cap.nano:
                found[name] = price
        return found

    def price(self, question: int, name: str, loss: ds.Loss, key: bytes) -> int:
        """What a resident's own vector costs: |v|^2 / (2 sigma^2) or |v| / b, up to 1/65535 of the loss."""
        scales = compile(QUESTIONS[question]).scales(loss)
        units = [
            abs(Fraction(int(v))) / Fraction(scale)
            for row, scale in zip(self.vector(question, name, key), scales, strict=True)
            for v in row
        ]
        own = sum(units) if loss.measure == "pure" else sum(u**2 for u in units) / 2
        share = min(math.ceil(own * (10**9 + 1) * Fraction(65_535, loss.nano)), 65_535)
        return math.ceil(Fraction(share * loss.nano, 65_535))

    def vector(self, question: int, name: str, key: bytes) -> np.ndarray:
        """A resident's own bounded vector, shape (statistics, cells)."""
        member = self.members[name]
        profile = member.profile[0] if member.profile else None
        return contributed(QUESTIONS[question], name, member.rows, profile, key)

    def totals(self, question: int, names: Iterable[str], key: bytes) -> np.ndarray:
        """The exact bounded totals over these residents."""
        plan = compile(QUESTIONS[question])
        out = np.zeros((len(plan.statistics), max(s.size(plan.cells) for s in plan.statistics)), dtype=np.int64)
        for name in names:
            out += self.vector(question, name, key)
        return out

    def charge(self, prices: Mapping[str, int], measure: str) -> None:
        for name, price in prices.items():
            self.members[name].spent[measure] += price


def fresh_rows(seed: int) -> tuple[list[Row], list[Row]]:
    """A resident's rows, and a profile of none or one."""
    rng = random.Random(seed)
    return table(EVENTS, rng, rng.randint(0, 7)), table(WHO, rng, rng.randint(0, 1))
