"""SQL to question: every form of docs/sql.md, and every refusal with its next step."""

from __future__ import annotations

import subprocess
import sys

import pytest

import datasov as ds

TRIPS = ds.Schema(
    "trips", domain="mobility",
    columns={
        "district": ds.Category("NESW"), "km": ds.Integer(0, 50), "fare": ds.Decimal(0, 99, scale=2, nullable=True),
        "at": ds.Timestamp("2027-01-01", "2027-02-01"), "ok": ds.Boolean(nullable=True), "date": ds.Boolean(),
        "case": ds.Boolean(),
    },
    keys=[("district",), (ds.bin("fare", ["1.50", 10]),)],
)  # fmt: skip
PEOPLE = ds.Schema(
    "people", domain="administration", kind="attributes",
    columns={"age": ds.Integer(0, 120), "ward": ds.Category("ab", nullable=True), "km": ds.Integer(0, 9)},
)  # fmt: skip
移動 = ds.Schema(
    "移動", domain="mobility", columns={"区": ds.Category(["北", "南"]), "Km": ds.Integer(0, 9), "KM": ds.Boolean()}
)
ASK = ds.query(TRIPS)
BOTH = ASK.join(PEOPLE)
JOIN = "FROM trips LEFT JOIN people USING (resident)"


def asked(text: str) -> ds.Query:
    return ds.sql(text, [TRIPS, PEOPLE, 移動])


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SELECT COUNT(*) FROM trips", ASK.count()),
        ("select count(1) from TRIPS;;", ASK.count()),
        ("SELECT COUNT(km) FROM trips -- not null", ASK.count()),
        ("SELECT COUNT(DISTINCT resident) /* people */ FROM trips", ASK.distinct()),
        (
            "SELECT SUM(km), AVG(km), VAR_POP(km), STDDEV_POP(km) FROM trips",
            ASK.sum("km").mean("km").variance("km").std("km"),
        ),
        ("SELECT SUM(LEAST(GREATEST(km, 2), 10)) FROM trips", ASK.sum("km", low=2, high=10)),
        ("SELECT SUM(GREATEST(2, LEAST(10, km))) FROM trips", ASK.sum("km", low=2, high=10)),
        ("SELECT AVG(LEAST(fare, 9.50)) FROM trips", ASK.mean("fare", high="9.5")),
        ("SELECT MEDIAN(km) FROM trips", ASK.median("km")),
        (
            "SELECT PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY GREATEST(fare, 0.5)) FROM trips",
            ASK.quantile("fare", "0.95", low="0.5"),
        ),
        ("SELECT district, COUNT(*) FROM trips GROUP BY district", ASK.keys("district").count()),
        ("SELECT COUNT(*), t.district FROM trips AS t GROUP BY 2", ASK.count().keys("district")),
        (
            "SELECT EXTRACT(HOUR FROM at), COUNT(*) FROM trips GROUP BY EXTRACT(hour FROM at)",
            ASK.keys(ds.hour("at")).count(),
        ),
        ("SELECT DATE_TRUNC('day', at), COUNT(*) FROM trips GROUP BY 1", ASK.keys(ds.day("at")).count()),
        ("SELECT CAST(at AS DATE), COUNT(*) FROM trips GROUP BY at::date", ASK.keys(ds.day("at")).count()),
        (
            "SELECT DATE_TRUNC('WEEK', at) at_week, COUNT(*) FROM trips GROUP BY at_week",
            ASK.keys(ds.week("at")).count(),
        ),
        ("SELECT DATE_TRUNC('month', at), COUNT(*) count FROM trips GROUP BY 1", ASK.keys(ds.month("at")).count()),
        (
            "SELECT WIDTH_BUCKET(km, ARRAY[5, 10.0]), COUNT(*) FROM trips GROUP BY 1",
            ASK.keys(ds.bin("km", [5, 10])).count(),
        ),
        (
            "SELECT WIDTH_BUCKET(fare, ARRAY[1.5, 10.0]), COUNT(*) FROM trips GROUP BY 1",
            ASK.keys(ds.bin("fare", ["1.50", 10])).count(),
        ),
        (
            "SELECT p.ward, district, COUNT(*) FROM trips LEFT OUTER JOIN people p USING (Resident) GROUP BY 2, ward",
            BOTH.keys("people.ward", "district").count(),
        ),
        ("SELECT district FROM trips GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 2", ASK.keys("district").count().top(2)),
        ('SELECT "date", COUNT(*) FROM trips GROUP BY date', ASK.keys("date").count()),
        ("SELECT Case, COUNT(*) FROM trips GROUP BY case", ASK.keys("case").count()),
        (
            "SELECT 区, COUNT(*) FROM 移動 WHERE 区 = '北' GROUP BY 区",
            ds.query(移動).keys("区").where(ds.col("区") == "北").count(),
        ),
        ("SELECT SUM(Km) FROM 移動 WHERE KM", ds.query(移動).where(ds.col("KM") == True).sum("Km")),  # noqa: E712
    ],
)
def test_a_text_is_its_question(text: str, query: ds.Query) -> None:
    found = asked(text)
    assert found == query
    assert found.digest == query.digest


KM, FARE, OK, AGE, AT = (ds.col(n) for n in ("km", "fare", "ok", "people.age", "at"))


@pytest.mark.parametrize(
    ("where", "predicate"),
    [
        ("trips.km > 5", KM > 5),
        ("5 >= trips.km", KM <= 5),
        ("fare = 1.50", FARE == "1.5"),
        ("fare < -0.10", FARE < "-0.1"),
        ("fare > 12345678901234567890.25", FARE > "12345678901234567890.25"),
        ("fare = 1e1", FARE == 10),
        ("trips.km <> 5", ~KM.is_in([5])),
        ("fare <> 5", ~FARE.is_in([5]) & ~FARE.is_null()),
        ("age NOT IN (1, 2)", ~AGE.is_in([1, 2]) & ~AGE.is_null()),
        ("NOT fare > 5", FARE <= 5),
        ("NOT (fare > 5 AND age IS NULL)", (FARE <= 5) | ~AGE.is_null()),
        ("fare BETWEEN 1 AND 2", (FARE >= 1) & (FARE <= 2)),
        ("fare NOT BETWEEN 1 AND 2", (FARE < 1) | (FARE > 2)),
        ("NOT ok", OK.is_in([False])),
        ("ok IS NOT TRUE", ~OK.is_in([True])),
        ("ok = FALSE", OK.is_in([False])),
        ("fare IS DISTINCT FROM 1", ~FARE.is_in([1])),
        ("district = 'N' OR ok AND trips.km = 1", (ds.col("district") == "N") | (OK.is_in([True]) & (KM == 1))),
        ("at >= '2027-01-02'", AT >= "2027-01-02"),
        ("at < TIMESTAMP '2027-01-02 08:00+09:00'", AT < "2027-01-02 08:00+09:00"),
        ("at = DATE '2027-01-02'", AT == "2027-01-02"),
    ],
)
def test_where(where: str, predicate: ds.Predicate) -> None:
    assert asked(f"SELECT COUNT(*) {JOIN} WHERE {where}").predicate == predicate


def test_a_long_chain_of_conditions_is_one_level() -> None:
    predicate = asked("SELECT COUNT(*) FROM trips WHERE " + " OR ".join(["km = 1"] * 3000)).predicate
    assert predicate is not None
    assert len(predicate.parts) == 3000


def test_bounds_are_those_of_the_question() -> None:
    assert ds.sql("SELECT COUNT(*) FROM trips", [TRIPS], rows=5, keys=2) == ASK.count().bound(rows=5, keys=2)
    with pytest.raises(ds.InvalidQueryError, match="rows is a whole number"):
        ds.sql("SELECT COUNT(*) FROM trips", [TRIPS], rows=0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT * FROM trips", "name keys, and COUNT"),
        ("SELECT t.* FROM trips t", "name keys, and COUNT"),
        ("SELECT district FROM trips", "add GROUP BY"),
        ("SELECT district FROM trips GROUP BY district", "add COUNT"),
        ("SELECT DISTINCT district FROM trips", "leave DISTINCT out"),
        ("SELECT district, COUNT(*) FROM trips", "add GROUP BY"),
        ("SELECT COUNT(*) FROM trips GROUP BY district", "to SELECT"),
        ("SELECT district, ok, COUNT(*) FROM trips GROUP BY district", "stands in GROUP BY too"),
        ("SELECT COUNT(*) FROM trips GROUP BY 1", "group by keys"),
        ("SELECT district, COUNT(*) FROM trips GROUP BY 3", "place from 1 to 2"),
        ("SELECT district, COUNT(*) FROM trips GROUP BY ROLLUP (district)", "one question for each"),
        ("SELECT district, COUNT(*) FROM trips GROUP BY 1 HAVING COUNT(*) > 5", "line 1, column 49, HAVING: filter"),
        ("SELECT district, COUNT(*) FROM trips GROUP BY 1 ORDER BY 2", "sort or cut its frame"),
        ("SELECT district, COUNT(*) FROM trips GROUP BY 1 LIMIT 2", "sort or cut its frame"),
        (
            "SELECT district, COUNT(*) FROM trips GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 2",
            "leave aggregates out of SELECT",
        ),
        ("SELECT district FROM trips GROUP BY 1 ORDER BY COUNT(*) LIMIT 2", "COUNT\\(\\*\\) DESC LIMIT"),
        ("SELECT district FROM trips GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 4", "fewer at the top"),
        ("SELECT COUNT(*) FROM trips OFFSET 2", "a part of the release"),
        ("SELECT COUNT(*) FROM (SELECT * FROM trips)", "no subqueries"),
        ("WITH x AS (SELECT 1) SELECT COUNT(*) FROM x", "one SELECT from a declared table"),
        ("SELECT COUNT(*) FROM trips UNION SELECT COUNT(*) FROM trips", "two questions"),
        ("SELECT COUNT(*) OVER () FROM trips", "no window functions"),
        ("SELECT COUNT(*) FILTER (WHERE ok) FROM trips", "into WHERE"),
        ("SELECT /*+ BOUND(rows => 2) */ COUNT(*) FROM trips", "rows=20, keys=2"),
        ("SELECT SUM(km) AS total FROM trips", "'km_sum': leave the alias out"),
        ("SELECT MIN(km) FROM trips", "ask for a quantile"),
        ("SELECT MAX(km) FROM trips", "ask for a quantile"),
        ("SELECT VAR_SAMP(km) FROM trips", "write VAR_POP"),
        ("SELECT STDDEV(km) FROM trips", "write STDDEV_POP"),
        ("SELECT COUNT(fare) FROM trips", "WHERE fare IS NOT NULL"),
        ("SELECT COUNT(DISTINCT km) FROM trips", "COUNT\\(DISTINCT resident\\)"),
        ("SELECT SUM(DISTINCT km) FROM trips", "leave DISTINCT out"),
        ("SELECT CORR(km, fare) FROM trips", "no such aggregate"),
        ("SELECT SUM(km + 1) FROM trips", "no arithmetic"),
        ("SELECT SUM(LEAST(km, fare)) FROM trips", "clip with LEAST"),
        ("SELECT SUM(LEAST(km, 60)) FROM trips", "within its declared bounds"),
        ("SELECT SUM(district) FROM trips", "is no number"),
        ("SELECT km, COUNT(*) FROM trips GROUP BY km", "WIDTH_BUCKET"),
        ("SELECT at, COUNT(*) FROM trips GROUP BY at", "EXTRACT\\(HOUR FROM at\\)"),
        ("SELECT WIDTH_BUCKET(km, 0, 10, 5), COUNT(*) FROM trips GROUP BY 1", "ARRAY\\[5, 10\\]"),
        ("SELECT EXTRACT(DAY FROM at), COUNT(*) FROM trips GROUP BY 1", "DATE_TRUNC\\('day', at\\)"),
        ("SELECT DATE_TRUNC('day', at, 'UTC'), COUNT(*) FROM trips GROUP BY 1", "the column's own"),
        ("SELECT CASE WHEN km > 1 THEN 1 END, COUNT(*) FROM trips GROUP BY 1", "check the spelling|WIDTH_BUCKET"),
        ("SELECT COUNT(*) FROM trips JOIN people USING (resident)", "write LEFT JOIN table USING"),
        ("SELECT COUNT(*) FROM trips, people", "write LEFT JOIN table USING"),
        ("SELECT COUNT(*) FROM trips LEFT JOIN people ON TRUE", "write LEFT JOIN table USING"),
        ("SELECT COUNT(*) FROM trips LEFT JOIN people USING (km)", "USING \\(resident\\)"),
        ("SELECT COUNT(*) FROM people LEFT JOIN trips USING (resident)", "no attribute table"),
        ("SELECT COUNT(*) FROM trip", "the schemas given are trips, people"),
        ("SELECT COUNT(*) FROM city.trips", "a declared table"),
        ('SELECT COUNT(*) FROM "Trips"', "the schemas given"),
        ("SELECT COUNT(*)", "FROM table"),
        ("SELECT COUNT(*) FROM trips; SELECT COUNT(*) FROM trips", "one statement is one question"),
        ("DELETE FROM trips", "write a SELECT"),
        ("trips", "begin with SELECT"),
        ("", "the text is empty"),
        ("SELECT COUNT(*) FROM 移動 WHERE km = 1", "several tables|write"),
    ],
)
def test_what_is_not_in_the_subset_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ds.InvalidQueryError, match=says):
        asked(text)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("km > 1", "several tables have this column: write table.column"),
        ("kilo > 1", "choose one of district, km"),
        ("trips.km > 5.5", "not a whole number"),
        ("trips.km > '5'", "without quotes"),
        ("fare = 1.005", "digits after the point"),
        (f"fare = 1.{'0' * 60}1", "at most 38 digits"),
        ("district = 'Q'", "write one of 'N', 'E'"),
        ("district = 1", "single quotes"),
        ("district > 'E'", "no order"),
        ("ok = 1", "TRUE or FALSE"),
        ("trips.km", "no truth value"),
        ("fare = NULL", "write IS NULL"),
        ("fare NOT IN (1, NULL)", "write IS NULL"),
        ("fare IN ()", "at least one value"),
        ("fare IN (1, 2,)", "leave it out"),
        ("fare > trips.km", "compares a column with constants"),
        ("1 = 1", "compares a column with constants"),
        ("COALESCE(fare, 0) > 1", "a column's name"),
        ("EXTRACT(HOUR FROM at) = 8", "group by them"),
        ("at::date = '2027-01-02'", "AND at < '2027-01-02'"),
        ("at = '2027-01-02 08:00:00.1234567'", "write a time like"),
        ("at = DATE '2027-01-02 08:00'", "write a time like"),
        ("at = '2027-02-30'", "not a time"),
        ("at > '2027-01-01' - INTERVAL '1' DAY", "write the time itself"),
        ("district LIKE 'N%'", "list the values"),
        ("fare BETWEEN SYMMETRIC 2 AND 1", "lower bound first"),
        ("fare > ?", "write the value itself"),
        ("fare > 1 AND", "something is missing"),
        ("district = 'N", "opened and not closed"),
        ("fare > 1 /* open", "opened and not closed"),
        ("`fare` > 1", "double quotes"),
        ("ok IS 5", "IS DISTINCT FROM"),
        ("people.resident = 'x'", "no such column"),
        ("NOT " * 40 + "ok", "nested too deeply"),
        ("(" * 20 + "ok" + ")" * 20, "nested too deeply"),
        ("fare IN (" + ", ".join(["1.25"] * 12_000) + ")", "at most 65,536 characters"),
    ],
)
def test_conditions_that_are_refused(where: str, says: str) -> None:
    with pytest.raises(ds.InvalidQueryError, match=says):
        asked(f"SELECT COUNT(*) {JOIN} WHERE {where}")


def test_names_that_differ_by_case_alone_are_matched_exactly() -> None:
    with pytest.raises(ds.InvalidQueryError, match="several"):
        asked("SELECT SUM(kM) FROM 移動")


def test_schemas_are_schemas_and_one_for_each_name() -> None:
    text = "SELECT COUNT(*) FROM trips"
    assert ds.sql(text, iter([TRIPS, TRIPS])) == ASK.count()
    for wrong in ([], ["trips"], 5):
        with pytest.raises(ds.InvalidQueryError, match="a list of schemas"):
            ds.sql(text, wrong)  # type: ignore[arg-type]
    other = ds.Schema("trips", domain="health", columns={"km": ds.Integer(0, 1)})
    with pytest.raises(ds.InvalidQueryError, match="two schemas are named 'trips'"):
        ds.sql(text, [TRIPS, other])
    with pytest.raises(ds.InvalidQueryError, match="takes a text"):
        ds.sql(5, [TRIPS])  # type: ignore[arg-type]


def test_the_name_stays_a_function_and_sqlglot_is_needed_only_when_called() -> None:
    code = (
        "import sys; import datasov as ds; assert 'sqlglot' not in sys.modules; import datasov.sql\n"
        "from datasov.sql.question import read\n"
        "t = ds.Schema('t', domain='health', columns={'x': ds.Integer(0, 1)})\n"
        "assert ds.sql('SELECT COUNT(*) FROM t', [t]) == ds.query(t).count() and callable(ds.sql)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    code = (
        "import sys; sys.modules['sqlglot'] = None; import datasov as ds\n"
        "try: ds.sql('SELECT 1', [])\n"
        "except ds.InvalidQueryError as fault: print(fault)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "pip install 'datasov[sql]'" in done.stdout
