"""The catalogue's tables: every one loads, is labelled in both languages, minimised and of its legal class."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from typing import Any

import pytest

import datasov as ds
from datasov import catalogue
from datasov.catalogue.read import table
from datasov.errors import InvalidQueryError
from datasov.model.columns import Boolean, Category, Decimal, Integer, Timestamp
from datasov.model.schema import DOMAINS, Key

JAPANESE = re.compile("[\u3041-\u30ff\u3400-\u9fff]")

# What the law names (個人情報保護法第2条第3項, 施行令第2条). "*" is the whole table: that somebody has a row tells it.
BY_LAW = {
    "visits": {"*": "treatment"},
    "health_checks": {"*": "examination", "guided": "treatment"},
    "disability_certificate": {"*": "disability"},
    "disability_services": {"*": "disability"},
    "long_term_care": {"level": "disability", "own_share": "disability"},
    "late_elderly_medical": {"entry": "disability"},
    "school_enrolment": {"support": "disability"},
    "victimisation": {"*": "victim"},
    "opinions": {"stance": "creed"},
    "public_assistance": {"aid": "treatment", "household": "disability"},
}
BY_CAUTION = {
    "care_services": ["*"],
    "vaccinations": ["*"],
    "child_rearing_allowance": ["*"],
    "public_assistance": ["month", "yen"],
    "national_health_insurance": ["relief", "arrears"],
    "late_elderly_medical": ["relief"],
    "national_pension": ["exemption"],
    "school_enrolment": ["aid"],
    "preparedness": ["needs_help"],
}


def test_the_ten_domains_and_the_seventeen_tasks_have_tables() -> None:
    assert tuple(catalogue.DOMAIN_LABELS) == DOMAINS
    assert all(catalogue.names(domain=domain) for domain in DOMAINS)
    assert len(catalogue.TASKS) == len(set(catalogue.TASKS)) == 17
    assert all(catalogue.names(task=task) for task in catalogue.TASKS)
    assert [e.schema.name for e in catalogue.entries()] == [n for d in DOMAINS for n in catalogue.names(domain=d)]
    assert {e.task for e in catalogue.entries()} == {"", *catalogue.TASKS}
    assert {e.schema.kind for e in catalogue.entries()} == {"events", "attributes"}


def test_every_table_column_and_value_has_a_label_in_both_languages_and_none_twice() -> None:
    tables = [e.label for e in catalogue.entries()]
    for e in catalogue.entries():
        assert [n for n, _ in e.labels] == list(e.schema.columns)
        groups = [[one for _, one in e.labels]]
        for column, type_ in e.schema.items:
            labels = e.value_labels(column)
            assert tuple(labels) == (type_.values if isinstance(type_, Category) else ())
            groups.append(list(labels.values()))
        for group in groups:
            assert len({one.en for one in group}) == len({one.ja for one in group}) == len(group), e.schema.name
            assert all(one.en.strip() and one.ja.strip() and not JAPANESE.search(one.en) for one in group)
    assert len({one.en for one in tables}) == len({one.ja for one in tables}) == len(tables)
    for one in (*tables, *catalogue.DOMAIN_LABELS.values()):
        assert JAPANESE.search(one.ja)
        assert not JAPANESE.search(one.en)


def test_the_columns_that_the_law_names_are_special_and_no_others_but_out_of_caution() -> None:
    expected: dict[str, dict[str, str]] = {}
    for name, grounds in BY_LAW.items():
        whole = dict.fromkeys(catalogue.schema(name).columns, grounds["*"]) if "*" in grounds else {}
        expected[name] = {**whole, **{c: g for c, g in grounds.items() if c != "*"}}
    for name, columns in BY_CAUTION.items():
        listed = list(catalogue.schema(name).columns) if columns == ["*"] else columns
        expected.setdefault(name, {}).update(dict.fromkeys(listed, "caution"))
    assert {e.schema.name: dict(e.grounds) for e in catalogue.entries() if e.grounds} == expected
    for e in catalogue.entries():
        assert e.special == tuple(n for n, c in e.schema.items if c.legal == "special")
        assert all(c.legal in ("ordinary", "special") for _, c in e.schema.items)


def test_no_column_is_a_place_for_a_text_a_name_or_a_national_number() -> None:
    for e in catalogue.entries():
        for name, column in e.schema.items:
            assert isinstance(column, Category | Integer | Decimal | Timestamp | Boolean)
            assert not re.search("name|address|birth|number|phone|mail|(^|_)id($|_)|note", name), name
            if isinstance(column, Category):
                assert len(column.values) <= 120
            if isinstance(column, Integer | Decimal):
                assert column.unit
                assert column.range[1] < 10**11


def test_every_key_set_can_be_asked_and_every_table_declares_some() -> None:
    for e in catalogue.entries():
        assert e.schema.key_sets
        assert len(set(e.schema.key_sets)) == len(e.schema.key_sets)
        for keys in e.schema.key_sets:
            assert ds.query(e.schema).keys(*keys).bound(rows=1, keys=1).count()


def test_a_schemas_document_holds_no_label_and_comes_back() -> None:
    for e in catalogue.entries():
        again = ds.Schema.from_document(e.schema.document())
        assert again == e.schema
        assert again.digest == e.schema.digest
        assert e.label.ja not in repr(e.schema.document())
    assert len({e.schema.digest for e in catalogue.entries()}) == len(catalogue.entries())


def test_access_by_name_and_what_is_not_there() -> None:
    assert ds.catalogue.schema("trips") is ds.catalogue.entry("trips").schema
    assert ds.catalogue.entry("resident_register").column_label("age_band") == catalogue.Label("Age band", "年齢階級")
    assert ds.catalogue.entry("resident_register").value_labels("sex")["2"] == catalogue.Label("female", "女性")
    assert catalogue.names(task="介護保険") == ("long_term_care", "care_services")
    assert catalogue.names(domain="health", task="就学") == ()
    for wrong in (
        lambda: catalogue.entry("nothing"), lambda: catalogue.names(domain="nothing"),
        lambda: catalogue.names(task="x"), lambda: catalogue.search(" "),
        lambda: catalogue.entry("trips").column_label("x"), lambda: catalogue.entry("trips").value_labels("x"),
    ):  # fmt: skip
        with pytest.raises(InvalidQueryError):
            wrong()
    assert catalogue.entry("trips").value_labels("km") == {}


def test_search_finds_labels_in_both_languages_whatever_their_case_and_width() -> None:
    assert catalogue.search("要介護") == (("long_term_care", "level"),)
    assert catalogue.search("ＡＧＥ ｂａｎｄ") == catalogue.search("年齢階級") == (("resident_register", "age_band"),)
    assert ("health_checks", "") in catalogue.search("健康管理")
    assert ("waste", "waste_kind") in catalogue.search("可燃")
    assert catalogue.search("no such thing") == ()


def test_the_tables_are_read_when_first_asked_for() -> None:
    code = "import datasov as d; size = lambda: d.catalogue._all.cache_info().currsize; assert size() == 0"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; d.catalogue.schema('trips'); assert size() == 1"], capture_output=True
    )
    assert done.returncode == 0, done.stderr


GOOD: dict[str, Any] = {
    "label": "Table|表", "keys": [["a"], ["bin:n:3,5"], ["hour:at", "a"]], "task": "就学",
    "columns": {
        "a": {"label": "A|甲", "type": "category", "values": ["x|一", "y-z|second|二"]},
        "n": {"label": "N|乙", "type": "integer", "low": 0, "high": 9, "unit": "d"}, "at": {"as": "at"},
    },
}  # fmt: skip
SHARED = {"at": {"label": "Time|日時", "type": "timestamp", "low": "2027-01-01", "high": "2028-01-01"}}


def read(spec: dict[str, Any]) -> catalogue.Entry:
    return table("t", "health", spec, SHARED, catalogue.TASKS)


def test_a_table_is_read_as_it_is_declared() -> None:
    entry = read(GOOD)
    assert entry.schema == ds.Schema("t", domain="health", columns={
        "a": ds.Category(["x", "y-z"]), "n": ds.Integer(0, 9, unit="d"), "at": ds.Timestamp("2027-01-01", "2028-01-01"),
    }, keys=[["a"], [ds.bin("n", [3, 5])], [ds.hour("at"), "a"]])  # fmt: skip
    assert dict(entry.value_labels("a")) == {"x": catalogue.Label("x", "一"), "y-z": catalogue.Label("second", "二")}
    assert entry.schema.key_sets[1] == (Key("n", "bin", ("3", "5")),)
    assert entry.special == ()
    assert read({**GOOD, "special": "victim"}).special == ("a", "n", "at")


WRONG = [
    (["label"], None, "'label' is missing"), (["keys"], None, "'keys' is missing"),
    (["lable"], "x", "'lable' is not known"),
    (["label"], "Table", "both languages"), (["label"], "表|Table", "English first"),
    (["label"], "Table|Table", "English first"),
    (["task"], "x", "standardised tasks"), (["special"], "x", "the ground 'x'"),
    (["columns", "a", "special"], "x", "ground"),
    (["columns", "a", "label"], "N|甲", "'N' stands twice"), (["columns", "a", "label"], "A|乙", "'乙' stands twice"),
    (["columns", "a", "label"], "A|", "column 'a': a label"), (["columns", "a", "label"], 3, "both languages"),
    (["columns", "a", "values"], ["x|一", "x|two|二"], "value 'x' stands twice"),
    (["columns", "a", "values"], ["x|一", "y|x|二"], "English label 'x' stands twice"),
    (["columns", "a", "values"], ["x|一", "y|一"], "Japanese label '一' stands twice"),
    (["columns", "a", "values"], ["x"], "both languages"), (["columns", "n", "unit"], None, "'unit' is missing"),
    (["columns", "n", "values"], ["x|一"], "'values' is not known"),
    (["columns", "n", "type"], "number", "the type is one of"),
    (["columns", "n", "type"], None, "the type is one of"), (["columns", "at", "as"], "x", "no shared column"),
    (["columns", "n", "high"], 10**12, "unit"), (["keys"], [["b"]], "no column 'b'"),
    (["keys"], [["year:at"]], "key 'year:at'"), (["kind"], "people", "kind is"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "why"), WRONG)
def test_what_is_missing_unknown_or_twice_in_a_data_file_is_refused(path: list[str], value: object, why: str) -> None:
    spec: dict[str, Any] = copy.deepcopy(GOOD)
    place = spec
    for part in path[:-1]:
        place = place[part]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    if why == "unit":
        spec["columns"]["n"]["unit"] = ""
    with pytest.raises(InvalidQueryError, match=why) as refused:
        read(spec)
    assert "table 't'" in str(refused.value)
