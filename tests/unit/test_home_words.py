"""The page's words, and the bounds that it tells in words."""

from __future__ import annotations

import json
import math
import string
from statistics import NormalDist

import pytest

import datasov as ds
from datasov.errors import InvalidQueryError
from datasov.home import describe, plain, plots
from datasov.home.words import LANGUAGES, accepted, day, say, words
from datasov.model.privacy import Loss


def test_both_languages_say_the_same_things() -> None:
    english, japanese = words("en"), words("ja")
    assert english.keys() == japanese.keys()
    for name in english:
        fields = [{f for _, f, _, _ in string.Formatter().parse(w[name]) if f is not None} for w in (english, japanese)]
        assert fields[0] == fields[1], name
        assert japanese[name].strip()
    assert say("en", "nav.data") != say("ja", "nav.data")


@pytest.mark.parametrize(
    ("header", "language"),
    [("", "en"), ("ja", "ja"), ("en-GB,en;q=0.9,ja;q=0.8", "en"), ("fr, ja;q=0.3, en;q=0.2", "ja"), ("de", "en"),
     ("ja;q=x, en;q=0.1", "en"), ("JA-jp", "ja"), ("ja;q=0", "en")],
)  # fmt: skip
def test_the_browser_says_which_language(header: str, language: str) -> None:
    assert accepted(header) == language


def test_a_day_is_written_as_people_write_it() -> None:
    noon = 1_800_000_000
    assert "2027年1月" in day("ja", noon)
    assert "January 2027" in day("en", noon)
    assert set(LANGUAGES) == {"ja", "en"}


@pytest.mark.parametrize("rho", ["0.0001", "0.005", "0.02", "0.1", "0.5", "1", "3"])
def test_no_gaussian_answer_lets_a_guess_be_right_more_often_than_the_page_says(rho: str) -> None:
    """The best test between two residents' worlds two steps apart, whose means differ by twice the sensitivity."""
    loss = ds.zcdp(rho=rho)
    sigma = 1 / math.sqrt(2 * loss.rho)
    best = NormalDist().cdf(2 / sigma / 2)
    assert best <= plain.right(loss) / 100
    assert plain.right(loss) - 100 * best < 14


@pytest.mark.parametrize("epsilon", ["0.01", "0.1", "0.5", "1", "2"])
def test_nor_does_randomised_response(epsilon: str) -> None:
    """It reaches epsilon exactly, and over two steps twice that: right with probability e^(2 eps) / (1 + e^(2 eps))."""
    loss = ds.pure(epsilon=epsilon)
    best = 1 / (1 + math.exp(-2 * float(epsilon)))
    assert best <= plain.right(loss) / 100
    assert plain.right(loss) - 100 * best < 1.01


def test_bounds_grow_and_end_at_certainty() -> None:
    found = [plain.right(Loss(nano)) for nano in (0, 10**5, 10**7, 10**9, 10**12)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (50, 100)
    assert plain.distance(ds.zcdp(rho="0.01", delta="0.001")) > plain.distance(ds.zcdp(rho="0.01")) + 0.0019


def test_shares_of_an_account() -> None:
    limit = ds.zcdp(rho="0.4")
    assert plain.share(ds.zcdp(rho="0.1"), limit) == 0.25
    assert plain.share(ds.zcdp(rho="1"), limit) == 1.0
    assert plain.share(ds.zcdp(rho="0.1", delta="0.001"), limit) == 1.0
    assert plain.share(limit, None) is None


def test_questions_are_told_in_words() -> None:
    trips = ds.catalogue.schema("trips")
    base = ds.query(trips).keys("mode", ds.hour("at")).bound(rows=5, keys=2)
    text = json.dumps(base.where(ds.col("km") > 3).count().sum("minutes").document())
    told = describe.question(text, "en")
    asked = "how many rows, and the total of Duration, by Main mode, and hour of Departure"
    assert told == f"{asked}, where conditions on Distance hold"
    assert "所要時間の合計" in describe.question(text, "ja")
    assert "代表交通手段" in describe.question(text, "ja")


@pytest.mark.parametrize("text", ["{}", "[]", '{"table": "x", "aggregates": 3}', '"x"'])
def test_a_question_without_words_is_said_to_be_one(text: str) -> None:
    assert describe.question(text, "en") == say("en", "ask.unread")


def test_names_that_the_catalogue_does_not_know_stand_for_themselves() -> None:
    assert describe.column("nowhere", "x", "en") == "x"
    assert describe.column("trips", "nothing", "en") == "nothing"
    assert describe.table("nowhere", "ja") == "nowhere"
    assert describe.column("trips", "visits.wait", "en") == ds.catalogue.entry("visits").column_label("wait").en
    assert plots.table_label(ds.Schema("trips", domain="health", columns={"a": ds.Boolean()}), "en") == "trips"


def test_charts_count_every_row(tmp_path) -> None:
    schema = ds.Schema(
        "t", domain="energy",
        columns={"k": ds.Category([f"v{i}" for i in range(12)], nullable=True), "n": ds.Integer(0, 1000)},
    )  # fmt: skip
    with ds.Resident.create(tmp_path / "v", device_key=bytes(32)) as resident:
        rows = [{"k": f"v{i % 12}", "n": i * 3} for i in range(200)] + [{"k": None, "n": 7}]
        resident.put(schema, rows)
        found = plots.drawn(resident, schema, "en")
        assert plots.counts(resident) == {"t": 201}
    share, spread = found.charts
    assert sum(b.count for b in share.bars) == sum(b.count for b in spread.bars) == 201
    assert [b.note for b in share.bars[-2:]] == ["other", "none"]
    assert share.bars[-1].count == 1
    assert all(0 <= b.length <= 1 for c in found.charts for b in c.bars)
    assert found.last[0] == ("–", "7")


def test_a_table_whose_numbers_are_all_alike_has_one_bar(tmp_path) -> None:
    schema = ds.Schema("t", domain="energy", columns={"n": ds.Decimal(0, 1, scale=3)})
    with ds.Resident.create(tmp_path / "v", device_key=bytes(32)) as resident:
        resident.put(schema, [{"n": "0.125"}] * 3)
        (chart,) = plots.drawn(resident, schema, "en").charts
        resident.put(schema, [{"n": "0.001"}, {"n": "0.999"}])
        (spread,) = plots.drawn(resident, schema, "en").charts
    assert [(b.label, b.count) for b in chart.bars] == [("0.125", 3)]
    assert sum(b.count for b in spread.bars) == 5
    assert len(spread.bars) <= plots.BINS + 1
    with pytest.raises(InvalidQueryError):
        ds.catalogue.entry("t")
