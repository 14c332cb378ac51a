"""The demo: its recount against the kernel's, its JSON, its report."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

import datasov as ds
from datasov.city import City
from datasov.demo import exact, people, plots, report, source
from datasov.demo.outcome import Outcome
from datasov.demo.questions import BUDGET, GRANTS, PURPOSE, Question, questions, tables
from datasov.demo.run import Options, run
from datasov.kernel.contribute import contribute
from datasov.kernel.plan import compile
from datasov.model.plan import Request
from datasov.model.schema import cell_labels
from datasov.model.shard import Shard
from datasov.resident import granting as resident
from tests.helpers import summed

HOUSEHOLDS = 40


@dataclass
class Pooled:
    """Forty real households in a city."""

    source: source.Source
    asked: tuple[Question, ...]
    city: City

    def shards(self, question: Question) -> list[Shard]:
        request = Request(compile(question.query), question.loss, PURPOSE, self.city.trust, self.city.epoch)
        return list(self.city._pool.snapshot(request).shards)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    folder = tmp_path_factory.mktemp("pooled")
    loaded = source.load(HOUSEHOLDS)
    schemas = tables(loaded.departments)
    with City.open(folder / "demo.city", budget=BUDGET, purposes=[PURPOSE], processing="US") as city:
        sent = [pair for e in people.enrol_all(folder, loaded, schemas, city.id) for pair in e.sent]
        assert city.admit_many(sent) == [None] * (3 * HOUSEHOLDS)
        yield Pooled(loaded, questions(schemas), city)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("outcome")
    options = Options(HOUSEHOLDS, report=folder / "deep" / "report.html", image=folder / "release.svg")
    return run(options), folder


def test_the_data_is_what_it_is_said_to_be() -> None:
    loaded = source.load(HOUSEHOLDS)
    assert len(loaded.households) == HOUSEHOLDS
    assert list(loaded.households) == sorted(loaded.households)
    assert set(loaded.purchases["household"]) == set(loaded.households)
    assert len(loaded.departments) == 32
    assert set(loaded.purchases["department"].drop_nulls()) <= set(loaded.departments)
    local = loaded.purchases["at"].dt.convert_time_zone(source.ZONE)
    assert set(local.dt.year()) == {2017}
    assert set(loaded.profiles["age_band"].drop_nulls()) <= set(source.AGES)
    assert set(loaded.profiles["income"].drop_nulls()) <= set(source.INCOMES)


def test_what_lies_beyond_the_bounds_is_clipped_and_counted() -> None:
    bought = pl.DataFrame({"spent": [84_002, 350], "quantity": [1, 89_638]})
    assert source.on_device(bought).rows() == [(source.MAX_SPENT, 1), (350, source.MAX_QUANTITY)]
    loaded = source.load(HOUSEHOLDS)
    assert loaded.clipped == (
        loaded.purchases.filter(pl.col("spent") > source.MAX_SPENT).height,
        loaded.purchases.filter(pl.col("quantity") > source.MAX_QUANTITY).height,
    )


def test_consents_and_budget_cover_what_is_asked(pooled: Pooled) -> None:
    asked = Counter[str]()
    for question in pooled.asked:
        asked[question.query.schema.name] += question.loss.nano
    assert {name: loss.nano for name, loss in GRANTS.items()} == dict(asked)
    assert sum(asked.values()) < BUDGET.nano


@pytest.mark.parametrize("number", range(5))
def test_the_recount_as_bounded_is_the_kernels_total(pooled: Pooled, number: int) -> None:
    question = pooled.asked[number]
    plan, shards = compile(question.query), pooled.shards(question)
    total = summed(plan, [contribute(plan, s, np.ones(s.residents, dtype=np.bool_)) for s in shards])
    (key,) = question.query.key_list
    labels = cell_labels(key, question.query.column(key.column))
    recount = {row["key"]: row for row in exact.bounded(question, plan, shards, pooled.source.departments).to_dicts()}
    assert recount.keys() <= set(labels)
    checked = 0
    for statistic, aggregate, part in zip(question.statistics, question.query.aggregates, plan.parts, strict=True):
        assert statistic.name == aggregate.name
        if statistic.kind == "mean":
            continue
        for cell, label in enumerate(labels):
            expected = recount[label][statistic.name] * statistic.unit if label in recount else 0
            assert total[part[0], cell] == pytest.approx(expected, abs=1e-6)
            checked += expected != 0
    assert checked > 3


def test_with_wide_bounds_all_rows_are_counted_again(pooled: Pooled) -> None:
    """Nothing is lost between the purchases as bought and the rows in the pool."""
    hours = next(q for q in pooled.asked if q.name == "hours")
    wide = replace(hours, query=hours.query.bound(rows=60_000, keys=24))
    found = exact.bounded(wide, compile(wide.query), pooled.shards(wide), pooled.source.departments)
    every = exact.unbounded(wide, pooled.source)
    assert found.sort("key").rows() == every.sort("key").rows()
    assert every["count"].sum() == pooled.source.purchases.height


def test_the_unbounded_recount_adds_up(pooled: Pooled) -> None:
    departments = exact.unbounded(pooled.asked[0], pooled.source)
    assert departments["items_sum"].sum() == pooled.source.purchases.height
    assert departments["spent_sum"].sum() == pytest.approx(pooled.source.purchases["spent"].sum() / 100)


def test_json_has_every_cell_of_every_statistic(outcome: tuple[Outcome, Path]) -> None:
    found = json.loads(outcome[0].json())
    assert found["households"] == HOUSEHOLDS
    assert len({cell["question"] for cell in found["releases"]}) >= 4
    fields = {"question", "key", "statistic", "value", "low", "high", "sigma", "exact", "exact_unbounded"}
    assert all(fields <= cell.keys() for cell in found["releases"])
    assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in found["releases"])
    known = [cell for cell in found["releases"] if cell["exact"] is not None]
    share = sum(c["low"] - 1e-6 <= c["exact"] <= c["high"] + 1e-6 for c in known) / len(known)
    assert found["covered_share"] == pytest.approx(share)
    places = [(c["question"], c["statistic"], str(c["key"])) for c in found["releases"]]
    assert len(places) == len(set(places))
    assert {"seconds", "peak_bytes"} <= found.keys()


def test_intervals_cover_as_often_as_they_say(outcome: tuple[Outcome, Path]) -> None:
    """Independent noise in each cell: fewer than this many covered has probability below 1e-7."""
    cells = [c for a in outcome[0].answers for c in a.cells if c.statistic.kind != "mean"]
    assert sum(bool(c.covered) for c in cells) >= binom.ppf(1e-7, len(cells), 0.95)


def test_the_budget_goes_down_by_what_each_release_cost(outcome: tuple[Outcome, Path]) -> None:
    left = BUDGET
    for answer in outcome[0].answers:
        left = left - answer.release.loss
        assert answer.remaining == left
    assert outcome[0].remaining == left
    assert outcome[0].repeated


def test_receipts_verify_and_tampering_shows(outcome: tuple[Outcome, Path]) -> None:
    checks = outcome[0].checks
    assert checks.receipts == len(outcome[0].answers)
    assert checks.spent == ds.zcdp(rho=1) == checks.granted
    assert checks.leaf.startswith("ProofError: ")
    assert checks.checkpoint.startswith("ProofError: ")


def test_refusals_have_their_reasons(outcome: tuple[Outcome, Path]) -> None:
    assert [r.error for r in outcome[0].refusals] == ["ConsentError", "BudgetExceededError"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(outcome: tuple[Outcome, Path]) -> tuple[str, _Page]:
    text = (outcome[1] / "deep" / "report.html").read_text(encoding="utf-8")
    parsed = _Page()
    parsed.feed(text)
    return text, parsed


def test_the_report_asks_nobody_for_anything(page: tuple[str, _Page]) -> None:
    text, parsed = page
    assert {re.sub(r"/[^/]*$", "", u) for u in re.findall(r"https?://[^\"'\s<>]+", text)} <= {
        "http://www.w3.org/2000", "http://www.w3.org/1999",
    }  # fmt: skip
    for tag in ("script", "img", "iframe", "object"):
        assert parsed.all(tag) == []
    assert all((a.get("href") or "").startswith("data:") for a in parsed.all("link"))
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_the_report_can_be_read_by_everybody(page: tuple[str, _Page], outcome: tuple[Outcome, Path]) -> None:
    parsed = page[1]
    assert parsed.all("html") == [{"lang": "en"}]
    assert any(a.get("name") == "viewport" for a in parsed.all("meta"))
    drawn = [a for a in parsed.all("svg") if a.get("aria-hidden") != "true"]
    assert len(drawn) == sum(len(a.question.shown) for a in outcome[0].answers)
    assert all(a.get("role") == "img" and len(a.get("aria-label") or "") > 40 for a in drawn)
    assert len(parsed.all("table")) == len(outcome[0].answers)
    named = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(named) == len(set(named))
    assert len(parsed.all("tr")) == sum(2 + len(a.of(a.question.statistics[0])) for a in outcome[0].answers)


def test_the_picture_is_an_svg_that_stands_alone(outcome: tuple[Outcome, Path]) -> None:
    text = (outcome[1] / "release.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "What a basket costs" in root.attrib["aria-label"]
    assert "var(--" not in text
    assert plots.KEYS[0] in text


def test_numbers_for_people() -> None:
    assert report.number(None) == "–"
    assert report.number(-1234.5, 1) == "−1,234.5"


def test_a_household_whose_index_is_taken_grants_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([bytes(4)] * 5)
    real = resident.random
    monkeypatch.setattr(resident, "random", lambda n: next(drawn, real(n)) if n == 4 else real(n))
    assert len(run(Options(3)).answers) == 5
    assert next(drawn, None) is None
