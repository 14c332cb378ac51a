"""My Number: the check digit, its forms in texts and numbers, and every way in by which one is refused."""

from __future__ import annotations

import decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.errors import InvalidDataError, InvalidQueryError, VerificationError
from datasov.model import frames, mynumber
from datasov.model.charter import plain
from datasov.model.consent import check_purpose
from datasov.model.query import query_from_document
from tests.helpers import PURPOSE, consent_for, found_city
from tests.helpers import contribution as honest

PUBLISHED = ["123456789018", "621498320257"]
"""The examples of JPMyNumber and of python-stdnum's module of the Individual Number."""
DIGITS = st.text("0123456789", min_size=11, max_size=11)
WIDE = ds.Schema("wide", domain="energy", columns={"n": ds.Integer(-(10**13), 10**13, unit="Wh")})
FINE = ds.Schema("fine", domain="energy", columns={"n": ds.Decimal(0, 10**13, scale=2, unit="JPY")})
NARROW = ds.Schema("narrow", domain="energy", columns={"n": ds.Integer(0, 10**10)})


def written_out(digits: str) -> int:
    """The ordinance's formula as it is written: P from the right, Q as it is defined."""
    p = [int(d) for d in reversed(digits)]
    rest = sum(p[n - 1] * (n + 1 if n <= 6 else n - 5) for n in range(1, 12)) % 11
    return 0 if rest <= 1 else 11 - rest


def number(digits: str) -> str:
    return digits + str(mynumber.check_digit(digits))


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_numbers_have_their_check_digit(text):
    assert mynumber.check_digit(text[:11]) == int(text[11])


@given(DIGITS)
def test_the_check_digit_is_that_of_the_ordinance(digits):
    assert mynumber.check_digit(digits) == written_out(digits)
    assert [mynumber.in_text(digits + str(last)) for last in range(10)].count(True) == 1


def test_both_remainders_that_give_zero_are_met():
    assert mynumber.check_digit("00000000000") == 0 == 0 * 3 % 11
    assert mynumber.check_digit("00000000040") == 0 == 4 * 3 % 11 - 1


FORMS = [
    "{}", "n{}", "({})", "本人{}です", "{0:.4} {1} {2}", "{0:.4}-{1}-{2}", "{0:.4}　{1}　{2}", "{0:.4}－{1}－{2}",
    "{0:.4}ー{1}ー{2}", "{0:.4}・{1}・{2}", "12 {0:.4}-{1}-{2}", "{0:.4}−{1}–{2}", "{0:.4}. {1}. {2}",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@given(digits=DIGITS)
def test_a_text_is_searched_in_all_its_forms(form, digits):
    whole = number(digits)
    text = form.format(whole, whole[4:8], whole[8:])
    wide = text.translate({ord("0") + i: ord("０") + i for i in range(10)})
    kanji = text.translate({ord("0") + i: "〇一二三四五六七八九"[i] for i in range(10)})
    arabic = text.translate({ord("0") + i: ord("٠") + i for i in range(10)})
    assert all(mynumber.in_text(t) for t in (text, wide, kanji, arabic))
    other = digits + str((int(whole[11]) + 1) % 10)
    assert not mynumber.in_text(form.format(other, other[4:8], other[8:]))


@pytest.mark.parametrize("group", [1, 2, 3, 4])
def test_digits_in_short_groups_are_one_number(group):
    for whole in PUBLISHED:
        assert mynumber.in_text(" ".join(whole[i : i + group] for i in range(0, 12, group)))


@given(st.text("0123456789", min_size=13, max_size=13))
def test_corporate_numbers_are_allowed(digits):
    """Thirteen digits (法人番号), on end or in their usual groups of one and four."""
    assert not mynumber.in_text(digits)
    assert not mynumber.in_number(int("1" + digits[1:]))


@pytest.mark.parametrize("text", ["100000-199999", "2027-01-31 12:00", "090-1234-5678", "T7000012050002", "", "東京"])
def test_what_is_something_else_is_left_alone(text):
    assert not mynumber.in_text(text)


@given(st.lists(st.integers(-(10**13), 10**13), max_size=20), st.lists(DIGITS, max_size=20))
def test_numbers_at_once_are_as_each_alone(others, digits):
    values = [*others, *(int(number(d)) for d in digits)]
    found = mynumber.among(np.array(values, dtype=np.int64)).tolist()
    assert found == [mynumber.in_number(v) for v in values]
    assert found == [len(str(abs(v))) == 12 and mynumber.in_text(str(abs(v))) for v in values]
    assert all(mynumber.in_numeral(number(d)) for d in digits)
    texts = [number(d) for d in digits] + [str(v) for v in others] + [f"{v}.50" for v in others]
    expected = [True] * len(digits) + [len(str(abs(v))) == 12 and mynumber.in_text(str(abs(v))) for v in others]
    assert [mynumber.in_numeral(t) for t in texts] == expected + [False] * len(others)
    assert mynumber.among_texts(pl.Series(texts, dtype=pl.String)).to_list() == expected + [False] * len(others)


def test_one_number_in_ten_passes():
    values = np.random.default_rng(5).integers(10**11, 10**12, 100_000)
    assert abs(mynumber.among(values).mean() - 0.1) < 0.006  # six standard deviations


# --- declarations

P = PUBLISHED[0]
DECLARED = {
    "label": lambda: ds.Category(["a", f"x {P}"]),
    "full-width label": lambda: ds.Category(["６２１４ ９８３２ ０２５７"]),
    "wide integer without a unit": lambda: ds.Integer(0, 10**11), "negative": lambda: ds.Integer(-(10**12), 0),
    "wide decimal without a unit": lambda: ds.Decimal("0", "150000000000.5", scale=1),
    "low bound": lambda: ds.Integer(int(P), 10**12, "B"), "high bound": lambda: ds.Decimal(0, P, unit="B"),
    "unit": lambda: ds.Integer(0, 1, P), "unit of a decimal": lambda: ds.Decimal(0, 1, unit=P),
    "column": lambda: ds.Schema("s", domain="energy", columns={"n" + P: ds.Boolean()}),
    "table": lambda: ds.Schema("s" + P, domain="energy", columns={"n": ds.Boolean()}),
    "purpose": lambda: check_purpose("for 1234-5678-9018"),
    "key": lambda: ds.Schema("s", domain="energy", columns=dict(WIDE.items), keys=[[ds.bin("n", [P])]]),
    "in a charter or a programme": lambda: plain("office 1234 5678 9018", 64, "a name"),
    "derived": lambda: ds.Exists(WIDE, where=ds.col("n") == int(P)),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_a_declaration_holds_none(name):
    with pytest.raises(InvalidQueryError) as why:
        DECLARED[name]()
    assert not {P, P[4:8], "６２１４"} & set(str(why.value).replace("-", " ").split())
    assert P not in str(why.value)


@pytest.mark.parametrize(
    "column",
    [
        lambda: ds.Integer(0, 10**11 - 1), lambda: ds.Integer(10**12, 10**13 - 1), lambda: ds.Integer(0, 2**53, "B"),
        lambda: ds.Decimal(0, 10**9, scale=6), lambda: ds.Category(["7000012050002"]),
        lambda: ds.Timestamp("1970-01-01", "2100-01-01"),
    ],
)  # fmt: skip
def test_what_cannot_hold_one_needs_nothing(column):
    """Corporate numbers of 13 digits among them."""
    column()


# --- rows

WAYS = {
    "ints": (WIDE, [1, int(P)]), "negative ints": (WIDE, [1, -int(P)]), "texts": (WIDE, ["1", P]),
    "decimals": (FINE, [decimal.Decimal(1), decimal.Decimal(P)]), "decimal texts": (FINE, ["1", P + ".00"]),
    "zeros in front": (NARROW, ["1", number("00123456789")]), "full width": (WIDE, ["1", "１２３４５６７８９０１８"]),
    "floats": (WIDE, [1.0, float(P)]),
    "underscores": (NARROW, ["1", "0012_3456_" + number("00123456789")[8:]]),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("as_frame", [True, False])
def test_a_row_holds_none_and_the_message_does_not_repeat_it(way, as_frame):
    schema, values = WAYS[way]
    data = pl.DataFrame({"n": values}) if as_frame else [{"n": v} for v in values]
    with pytest.raises(InvalidDataError, match="My Number") as why:
        frames.encode(schema, data)
    assert (why.value.row, why.value.column) == (1, "n")
    assert not any(part in str(why.value) for part in ("1234", "5678", "１２３４"))


def test_numbers_beside_one_are_kept(tmp_path):
    near = [int(P) + 1, 10**12, 10**11, 99_999_999_999, int(P) * 10]
    assert frames.encode(WIDE, [{"n": v} for v in near])["n"].to_list() == near
    assert frames.encode(FINE, [{"n": P + ".01"}])["n"].to_list() == [int(P) * 100 + 1]
    (tmp_path / "x.csv").write_text(f"n\n1\n{P}\n")
    with pytest.raises(InvalidDataError, match="row 1"):
        frames.encode(WIDE, tmp_path / "x.csv")


def test_a_fill_of_an_added_column_is_none(tmp_path):
    """Whatever `evolve` would fill in enters the vault too."""
    with ds.Resident.create(tmp_path / "v", device_key=bytes(32)) as resident:
        resident.put(NARROW, [{"n": 1}])
        more = ds.Schema(
            "narrow", domain="energy", columns={"n": ds.Integer(0, 10**10), "m": ds.Integer(0, 10**12, "B")}
        )
        with pytest.raises(InvalidDataError, match="My Number"):
            resident.evolve(more, fill={"m": int(P)})


# --- a city does not trust the vault


def test_a_city_refuses_one_from_a_vault_that_does_not(tmp_path, clock, monkeypatch):
    with found_city(tmp_path, clock) as city:
        consent = consent_for(city, WIDE, "ann")
        with monkeypatch.context() as careless:
            careless.setattr(mynumber, "among", lambda numbers: np.zeros(len(numbers), dtype=np.bool_))
            sealed = honest(city, consent, "ann", 1, WIDE, [{"n": int(P)}])
        with pytest.raises(InvalidDataError, match="My Number") as why:
            city.admit(consent, sealed)
        assert P not in str(why.value)
        city.admit(consent, honest(city, consent, "ann", 2, WIDE, [{"n": int(P) + 1}]))


def test_a_city_refuses_a_schema_that_holds_one(tmp_path, clock, monkeypatch):
    with found_city(tmp_path, clock) as city:
        with monkeypatch.context() as careless:
            careless.setattr(mynumber, "in_text", lambda text: False)
            schema = ds.Schema("s", domain="energy", columns={"who": ds.Category(["a", P])})
            consent = consent_for(city, schema, "ann")
            sealed = honest(city, consent, "ann", 1, schema, [{"who": P}])
        with pytest.raises(VerificationError, match="schema cannot be read"):
            city.admit(consent, sealed)


def test_a_city_refuses_it_in_a_profile_too(tmp_path, clock, monkeypatch):
    me = ds.Schema("me", domain="health", kind="attributes", columns={"n": ds.Integer(0, 10**12, "B")})
    with found_city(tmp_path, clock) as city:
        consent = consent_for(city, NARROW, "ann", join=[me])
        with monkeypatch.context() as careless:
            careless.setattr(mynumber, "among", lambda numbers: np.zeros(len(numbers), dtype=np.bool_))
            sealed = honest(city, consent, "ann", 1, NARROW, [{"n": 1}], {me: [{"n": int(P)}]})
        with pytest.raises(InvalidDataError, match="My Number"):
            city.admit(consent, sealed)


# --- what is asked, and named, in public


Q = ds.query(WIDE).bound(rows=1)
ASKED = {
    "where": lambda: Q.where(ds.col("n") == int(P)), "text": lambda: Q.where(ds.col("n") > P),
    "zeros": lambda: Q.where(ds.col("n") < number("00123456789")), "float": lambda: Q.where(ds.col("n") > float(P)),
    "power": lambda: Q.where(ds.col("n") > "1.23456789018e11"),
    "power cut": lambda: Q.keys(ds.bin("n", ["1.23456789018e11"])),
    "deep": lambda: Q.where(~((ds.col("n") > 1) & (ds.col("n") < int(P)))),
    "cut": lambda: Q.keys(ds.bin("n", [int(P)])), "edge": lambda: Q.quantile("n", "0.5", edges=[1, int(P)]),
    "clip": lambda: Q.sum("n", low=0, high=int(P)),
    "decimal clip": lambda: ds.query(FINE).bound(rows=1).sum("n", low=P),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_a_question_holds_none(tmp_path, clock, name):
    """Questions are public for ever: they stand in the log."""
    with found_city(tmp_path, clock) as city:
        with pytest.raises(InvalidQueryError, match="My Number") as why:
            city.release(ASKED[name]().count(), loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)
        assert P not in str(why.value)
        assert city.remaining == city.budget


def test_a_question_read_from_a_document_holds_none():
    asked = Q.where(ds.col("n") > 7).count().document()
    asked["where"]["values"] = [int(P)]
    with pytest.raises(InvalidQueryError, match="My Number"):
        query_from_document(asked, {WIDE.digest: WIDE})


def test_quantiles_of_a_wide_column_can_be_asked(tmp_path, clock):
    """Bins of equal width fall on such numbers by themselves, and nobody chose them."""
    with found_city(tmp_path, clock) as city:
        asked = Q.quantile("n", "0.5", low=0, high=10**12)
        assert any(mynumber.in_number(c) for c in asked.aggregates[0].cuts)
        city.release(asked, loss=ds.zcdp(rho="0.1"), purpose=PURPOSE)


def test_a_city_is_not_founded_with_one(tmp_path, clock):
    for given_ in ({"purposes": ["plan " + P]}, {"name": "ann " + P}):
        with pytest.raises(InvalidQueryError, match="My Number"):
            found_city(tmp_path, clock, **given_)
