"""Documents that people sign, changed at random; signers in random sets; questions in random templates."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasov as ds
from datasov.authority import approval, paper, signature_file
from datasov.authority.approval import ABOUT, Signature, Signed
from datasov.authority.charter import check_first
from datasov.authority.programme import check_approval
from datasov.errors import InvalidDataError, InvalidQueryError, ProgrammeError, VerificationError
from datasov.kernel.plan import compile
from datasov.model.charter import Charter
from datasov.model.document import canonical
from datasov.model.plan import Request
from datasov.model.programme import Programme
from datasov.model.template import Allowed, Template, within
from tests.governing import ASSEMBLY, COUNCIL, charter_for, programme_for, signed, urgent_for
from tests.helpers import CITY_ID, COUNT, NOW, PURPOSE, TRIPS


class Known:
    id = CITY_ID


CITY: Any = Known()
CHARTER, PROGRAMME, URGENT = charter_for(CITY), programme_for(CITY), urgent_for(CITY)
EXACT = programme_for(CITY, template=None, question=COUNT.document())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.text(max_size=9)
    | st.sampled_from([PURPOSE, "ab" * 32, "2027-04-01T00:00:00Z", "2027-02-30T00:00:00Z", "count", "zcdp", "JP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "key", "nano"]), inner),
    max_leaves=5,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += places(inner, (*path, step))
    return found


@given(st.data())
def test_a_document_changed_anywhere_is_refused_or_says_exactly_what_it_says(data):
    """No other error than the declared one, and what is read back is the whole document."""
    kind, made = data.draw(st.sampled_from([(Charter, CHARTER), (Programme, PROGRAMME), (Programme, EXACT)]))
    document = json.loads(canonical(made.document()))
    path = data.draw(st.sampled_from(places(document)))
    at = document
    for step in path[:-1]:
        at = at[step]
    if data.draw(st.booleans()) and isinstance(at, dict):
        del at[path[-1]]
    else:
        at[path[-1]] = data.draw(VALUES)
    try:
        found = kind.from_document(copy.deepcopy(document))
    except InvalidQueryError:
        return
    assert canonical(found.document()) == canonical(document)


@given(st.sets(st.sampled_from([*COUNCIL, *ASSEMBLY, "a stranger", "another"])), st.booleans())
def test_exactly_the_sets_that_reach_both_thresholds_approve(by, urgent):
    document = signed(URGENT if urgent else PROGRAMME, sorted(by))
    council, assembly = len(by & set(COUNCIL)), len(by & set(ASSEMBLY))
    with nullcontext() if council >= 3 + urgent and assembly >= 4 + 2 * urgent else pytest.raises(ProgrammeError):
        check_approval(CHARTER, document, (), NOW)
    with nullcontext() if council >= 3 and assembly >= 4 else pytest.raises(ProgrammeError):
        check_first(signed(CHARTER, sorted(by)), NOW)


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_bytes_that_are_no_signed_document_are_refused(data):
    try:
        found = Signed.from_bytes(data)
    except VerificationError:
        return
    assert Signed.from_bytes(found.to_bytes()) == found


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_of_a_signed_document_is_seen(at, change):
    data = bytearray(signed(PROGRAMME).to_bytes())
    data[at % len(data)] ^= change
    try:
        found = Signed.from_bytes(bytes(data))
        by = approval.signers(found)
    except (VerificationError, InvalidQueryError):
        return
    assert (found.kind, found.document) == (signed(PROGRAMME).kind, signed(PROGRAMME).document)
    assert by == frozenset(found.signatures)


@given(st.binary(min_size=32 + ABOUT + 64, max_size=32 + ABOUT + 64), st.randoms())
def test_signatures_survive_paper(body, random):
    made = Signature(body[:32], body[32 : 32 + ABOUT], body[32 + ABOUT :])
    head, *lines = signature_file.write(made).splitlines()
    random.shuffle(lines)
    assert signature_file.read("\n".join([head, *(f"> {line.lower()}" for line in lines)])) == [made]


@given(st.binary(min_size=105, max_size=105), st.integers(0, 6), st.integers(0, 25), st.integers(1, 31))
def test_a_wrong_digit_is_found_but_for_one_in_a_thousand(body, number, at, step):
    lines = paper.lines(body)
    digits = lines[number].split(" ", 1)[1].replace(" ", "")
    wrong = digits[:at] + paper.DIGITS[(paper.DIGITS.index(digits[at]) + step) % 32] + digits[at + 1 :]
    said = ""
    try:
        assert paper.read([*lines[:number], f"{number + 1} {wrong}", *lines[number + 1 :]], 105) != body
    except InvalidDataError as why:
        said = str(why)
    assert not said or said.startswith(f"line {number + 1} was mistyped")


KEYS = [ds.Key("district"), ds.bin("km", [5, 20])]
ASKED = {"count": Allowed("count"), "distinct": Allowed("distinct"), "sum": Allowed("sum", "km"), "per": Allowed(
    "count", "", ("km", "value"))}  # fmt: skip
WHERES = {"km": ds.col("km") > 3, "district": ds.col("district") == "N"}


@given(
    st.sets(st.sampled_from(range(2))), st.sets(st.sampled_from(sorted(ASKED)), min_size=1),
    st.sets(st.sampled_from(sorted(WHERES))), st.integers(1, 4), st.integers(1, 4),
    st.sets(st.sampled_from(range(2))), st.sets(st.sampled_from(sorted(ASKED))),
    st.sets(st.sampled_from(sorted(WHERES))), st.integers(1, 4), st.integers(1, 4),
)  # fmt: skip
def test_a_question_is_within_a_template_iff_each_part_is_listed(
    keys, asked, where, rows, bound, all_keys, all_asked, all_where, all_rows, all_bound
):
    query = ds.query(TRIPS).keys(*(KEYS[k] for k in sorted(keys))).bound(rows=rows, keys=bound)
    for name in sorted(asked):
        query = query.count(per="km") if name == "per" else query.sum("km") if name == "sum" else getattr(query, name)()
    for name in sorted(where):
        query = query.where(WHERES[name])
    template = Template(
        tuple(KEYS[k] for k in sorted(all_keys)), tuple(ASKED[a] for a in sorted(all_asked)), tuple(sorted(all_where)),
        (), all_rows, all_bound,
    )  # fmt: skip
    assert Template.from_document(template.document()) == template
    request = Request(compile(query), ds.zcdp(rho="0.01"), PURPOSE, ds.central(), 0)
    listed = keys <= all_keys and asked <= all_asked and where <= all_where and rows <= all_rows and bound <= all_bound
    assert (within(template, request) is None) == listed
