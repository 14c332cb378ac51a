"""The plans of docs/plans run at a small size: intervals hold what is exact, and what must be refused is."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys

import polars as pl
import pytest

from datasov.sim import compare, covered
from tests.paths import ROOT

PLANS = ROOT / "docs" / "plans"
SIZES = {"a_city": 50, "maebashi": 40, "sensors": 40, "vendor_leaves": 40, "brokers": 36}
MISSES = 1e-9
"""Above the 1,300 intervals below, a test that fails by chance comes less than once in 700,000 runs."""
REFUSED = {
    "a_city": ["ConsentError", "ConsentError", "ConsentError", "InvalidQueryError", "BudgetExceededError"],
    "maebashi": [
        "InvalidQueryError", "InvalidDataError", "InvalidQueryError", "InvalidQueryError", "InvalidDataError",
        "BudgetExceededError",
    ],
    "sensors": [
        "VerificationError", "ConsentError", "DecryptionError", "InvalidQueryError", "InvalidQueryError",
        "ConsentError",
    ],
    "brokers": ["InvalidQueryError", "InvalidQueryError", "InvalidQueryError", "PeerError"],
    "vendor_leaves": ["ProgrammeError", "StoreError", "StoreError", "ConsentError", "ProofError"],
}  # fmt: skip


@pytest.fixture(scope="module")
def plans():
    """Imports a script of the folder, beside which the module lies that all share."""
    sys.path.insert(0, str(PLANS))
    yield importlib.import_module
    sys.path.remove(str(PLANS))
    for name in ("plan", *SIZES):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def outcomes(plans):
    found = {}

    def of(name):
        if name not in found:
            teller = plans("plan").Teller(None)
            found[name] = plans(name).run(SIZES[name], 3, teller)
        return found[name]

    return of


@pytest.mark.parametrize("name", SIZES)
def test_the_intervals_hold_what_the_simulation_knows(outcomes, name):
    outcome = outcomes(name)
    for asked in outcome.asked:
        told = compare(asked.release, asked.rows, 1 - MISSES)
        inside, intervals = covered(told)
        assert inside == intervals > 0, asked.name
        assert asked.bounds_cut == 0, asked.name
        wrong = told.with_columns(
            pl.col("^.*_exact$") + pl.col(asked.preview.frame["statistic"][0] + "_high").max() * 9
        )
        assert covered(wrong)[0] < intervals, "an exact value that is far off would show"
    spent = outcome.budget - outcome.remaining
    here = outcome.asked[:1] if name == "brokers" else outcome.asked
    assert spent.nano == sum(a.release.loss.nano for a in here)


@pytest.mark.parametrize("name", SIZES)
def test_what_must_be_refused_is_refused(outcomes, name):
    assert [r.error for r in outcomes(name).refused] == REFUSED[name]


@pytest.mark.parametrize("name", SIZES)
def test_everything_says_that_it_is_simulated(plans, outcomes, name):
    outcome = outcomes(name)
    document = json.loads(json.dumps(outcome.document(), default=str))
    assert document["simulated"] is True
    assert all(about["simulated"] is True and about["assumptions"] for about in document["about"])
    assert all(asked.release.city.startswith("simulated ") for asked in outcome.asked)
    svg = plans(name).picture(outcome)
    unit = "device-days" if name == "sensors" else "residents"
    assert f"SIMULATED: {SIZES[name]:,} made-up {unit}, seed 3" in re.sub(r"\s+", " ", svg)
    assert 'aria-label="Simulated data. ' in svg
    assert "95 % interval" in svg


def test_who_consents_to_health_alone_is_in_no_question_over_more(outcomes):
    asked = outcomes("a_city").of("booked")
    assert not set(asked.rows["resident"]) & set(range(0, SIZES["a_city"], 10))
    assert set(asked.rows["resident"])


def test_the_rule_for_empty_houses_and_the_topics_err_and_the_plan_says_so(outcomes):
    facts = outcomes("maebashi").facts
    assert facts["of_them_really_empty"] <= min(facts["told_by_the_rule"], facts["really_empty"])
    assert facts["opinions_whose_topic_was_told_rightly"] < facts["opinions"]
    assert facts["called"] == {
        "the same within a month": True, "the same the month after": False, "the same in another programme": False
    }  # fmt: skip


def test_a_passage_costs_a_person_what_the_page_says(plans, outcomes):
    asked = outcomes("sensors").of("hours")
    sensors = plans("sensors")
    delta2 = 24 * sensors.MOST**2
    assert sensors.for_a_person(asked, 20) == pytest.approx(0.1 * 20**2 / delta2, rel=0.01)
    rows = asked.rows.group_by("resident").len()
    assert rows["len"].unique().to_list() == [24], "a row for every hour, so that no count moves a bound"


def test_nothing_is_lost_when_the_vendor_leaves(outcomes):
    facts = outcomes("vendor_leaves").facts
    assert facts["answered_before_is_the_same"] is True
    assert facts["budget_is_the_same"] is True
    assert facts["exported"]["the_same_elsewhere"] is True
    assert facts["receipts"] == [1, 2]
    sizes = [size for _, size in facts["log"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


def test_one_question_is_at_six_brokers_with_one_expected_error(outcomes):
    outcome = outcomes("brokers")
    facts = dict(outcome.facts)
    assert facts.pop("same_expected_error") is True
    assert len({a.release.query.schema.digest for a in outcome.asked}) == 6
    assert {name: fact["city"] for name, fact in facts.items()} == {name: f"simulated {name}" for name in facts}
    for fact in facts.values():
        assert (fact["entities"], fact["delivered_again"], fact["read_back_is_the_release"]) == (6, 0, True)


def test_a_plan_runs_from_the_command_line(tmp_path):
    command = [sys.executable, str(PLANS / "sensors.py"), "--residents", "12", "--seed", "2", "--json"]
    done = subprocess.run(
        [*command, "--image", "p.svg", "--write", "rows"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["simulated"] is True
    assert {q["name"] for q in told["questions"]} == {"hours", "places"}
    assert all(q["expected"] and q["cells"] and q["rho"] > 0 for q in told["questions"])
    assert "nobody in it exists" in done.stderr
    assert "\r" not in done.stderr, "no count where there is no terminal"
    assert "SIMULATED" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    written = tmp_path / "rows" / "gates" / "passages.parquet"
    assert pl.read_parquet_metadata(written)["simulated"] == "true"
    done = subprocess.run([*command, "--write", "rows"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("StoreError: ")


def test_the_example_of_the_index_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (PLANS / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("True")
    assert "residents_exact" in done.stdout


@pytest.mark.parametrize("name", SIZES)
def test_a_page_names_its_command_its_picture_and_what_was_expected(outcomes, name):
    page, index = ((PLANS / f).read_text(encoding="utf-8") for f in (f"{name}.md", "README.md"))
    english, japanese = re.split(r"^## ", page, flags=re.MULTILINE)
    assert "模擬データ" in japanese
    assert "Simulated" in english
    (command,) = re.findall(r"^    (python docs/plans/.*)$", page, flags=re.MULTILINE)
    assert command.startswith(f"python docs/plans/{name}.py --residents ")
    assert command in index
    image = command.rpartition(" ")[2]
    assert (ROOT / image).is_file()
    assert f"](../images/{image.rpartition('/')[2]})" in page
    assert f"]({name}.md)" in index
    for asked in outcomes(name).asked:
        frame = asked.preview.frame
        margin = frame.filter(frame["statistic"] == frame["statistic"][-1])["margin"][0]
        assert f"± {margin:,.0f} " in english, asked.name
        assert f"{asked.release.loss.rho:g}" in english, asked.name


def test_a_refusal_that_does_not_come_fails_the_plan(plans):
    plan = plans("plan")
    with pytest.raises(AssertionError, match="not refused: nothing"):
        plan.refuse("nothing", lambda: None, plan.ds.ConsentError, plan.Teller(None))
