"""The demo's report: one HTML file that opens offline."""

from __future__ import annotations

from importlib.resources import files

import jinja2
from markupsafe import Markup

from datasov.demo import plots
from datasov.demo.answers import Answer
from datasov.demo.outcome import Outcome
from datasov.demo.source import MAX_QUANTITY, MAX_SPENT

DELTA = 1e-6


def html(outcome: Outcome) -> str:
    """The report as one text."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files("datasov.demo").joinpath("report.html").read_text(encoding="utf-8"))
    known = [c for a in outcome.answers for c in a.cells if c.covered is not None]
    return template.render(
        outcome=outcome,
        answers=[_section(a, outcome) for a in outcome.answers],
        cells=len(known),
        covered=sum(bool(c.covered) for c in known),
        epsilon=lambda loss: f"{loss.epsilon(DELTA):.2f}",
        spent=outcome.budget - outcome.remaining,
        legend=plots.KEYS,
        max_spent=MAX_SPENT // 100,
        max_quantity=MAX_QUANTITY,
        number=number,
    )


def _section(answer: Answer, outcome: Outcome) -> dict[str, object]:
    question = answer.question
    shown = [s for name in question.shown for s in question.statistics if s.name == name]
    rows = list(zip(*(answer.of(s) for s in question.statistics), strict=True))
    if not question.ordered:
        rows.sort(key=lambda row: -row[0].value)
    return {
        "answer": answer,
        "question": question,
        "figures": [(s.title, Markup(plots.plot(answer, s))) for s in shown],  # noqa: S704
        "rows": rows,
        "bounds": _bounds(question.query.rows, question.query.keys_bound),
        "share": 100 * answer.release.loss.nano / outcome.budget.nano,
    }


def _bounds(rows: int | None, keys: int | None) -> str:
    counted = "" if rows is None else "1 row" if rows == 1 else f"{rows} rows"
    return " in each of ".join(part for part in (counted, f"{keys} keys" if keys else "") if part)


def number(value: float | None, digits: int = 0) -> str:
    """A number for people; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")
