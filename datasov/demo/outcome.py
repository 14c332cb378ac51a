"""All that the demo found."""

from __future__ import annotations

import json
from dataclasses import dataclass

from datasov.demo.answers import Answer, covered_share, document
from datasov.demo.checks import Checks, Refusal
from datasov.model.privacy import Loss


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that the demo found, for the console, the report and JSON."""

    households: int
    purchases: int
    with_profile: int
    clipped: tuple[int, int]
    budget: Loss
    remaining: Loss
    answers: tuple[Answer, ...]
    checks: Checks
    refusals: tuple[Refusal, ...]
    repeated: bool
    seconds: float
    enrol_seconds: float
    workers_peak_bytes: int
    own_peak_bytes: int

    @property
    def peak_bytes(self) -> int:
        """At most so much memory was held at any time: the peaks of this process and of the workers, added."""
        return self.own_peak_bytes + self.workers_peak_bytes

    @property
    def covered_share(self) -> float:
        return covered_share(self.answers)

    def json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "households": self.households, "purchases": self.purchases, "releases": document(self.answers),
                "covered_share": self.covered_share, "budget_rho": self.budget.rho,
                "remaining_rho": self.remaining.rho, "receipts": self.checks.receipts,
                "seconds": round(self.seconds, 2), "enrol_seconds": round(self.enrol_seconds, 2),
                "peak_bytes": self.peak_bytes,
            },
            allow_nan=False,
        )  # fmt: skip
