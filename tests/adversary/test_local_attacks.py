"""Attacks on local trust: what a report tells, exactly; asking again; watching reports change; who refuses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import datasov as ds
from datasov.mpc.local import Encoding, encoding
from datasov.mpc.permanent import Asked, longitudinal
from tests.helpers import CITY_ID, PURPOSE, TRIPS
from tests.local_reports import distribution

COUNT = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
KINDS = ["unary", "hadamard"]


def worst(one, other):
    """The greatest logarithm of the ratio of two distributions, over all reports."""
    assert one.keys() == other.keys()
    return max(abs(math.log(one[r] / other[r])) for r in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("categories", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("epsilon", ["0.1", "1", "4"])
def test_the_exact_likelihood_ratio_of_a_report_is_at_most_e_to_epsilon(kind, categories, epsilon):
    """All inputs, none included, and all reports, by running the encoder over every outcome of its draws."""
    how = Encoding(kind, categories, encoding(categories, ds.pure(epsilon=epsilon)).flip)
    laws = {c: distribution(c, how) for c in (None, *range(categories))}
    for law in laws.values():
        assert math.isclose(math.fsum(law.values()), 1)
    between = [worst(laws[a], laws[b]) for a, b in itertools.combinations(range(categories), 2)]
    nulls = [worst(laws[None], laws[c]) for c in range(categories)]
    slack = 1e-9
    assert max(between, default=0) <= float(epsilon) + slack
    assert max(nulls) <= how.add_remove + slack < float(epsilon)
    if categories > 1:
        assert math.isclose(max(between), how.replace_one, rel_tol=1e-6), "nothing of the loss is given away"
    assert math.isclose(max(nulls), how.add_remove, rel_tol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_supports_have_the_chances_that_the_estimator_uses(kind):
    how = Encoding(kind, 4, encoding(4, ds.pure(epsilon=1)).flip)
    for category in (None, 0, 1, 2, 3):
        law = distribution(category, how)
        for c in range(4):

            def supports(report, c=c):
                word = int.from_bytes(report, "little")
                return word >> c & 1 if kind == "unary" else (word & (c + 1)).bit_count() % 2 == 0

            chance = math.fsum(p for report, p in law.items() if supports(report))
            assert math.isclose(chance, how.own if c == category else how.other, rel_tol=1e-9)


def sequences(how, values, renewals):
    """The law of what a device says in each epoch: kept within a renewal, drawn from its value at the start of each."""
    found = {}
    laws = {v: distribution(v, how) for v in set(values)}
    starts = [i for i, r in enumerate(renewals) if i == 0 or renewals[i - 1] != r]
    for drawn in itertools.product(*(laws[values[s]].items() for s in starts)):
        said, at = [], -1
        for i in range(len(values)):
            at += i in starts
            said.append(drawn[at][0])
        found[tuple(said)] = math.prod(p for _, p in drawn)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_ratio_over_sequences_is_that_of_their_renewals(kind):
    """Any two histories, with changes whenever they like and refusals, over four epochs with one renewal."""
    epsilon, how = 1.0, Encoding(kind, 2, encoding(2, ds.pure(epsilon=1)).flip)
    histories = [(0, 0, 0, 0), (0, 1, 0, 1), (1, 1, 0, 0), (None,) * 4, (0, 0, None, None), (1, None, 0, 1)]
    for renewals, times in (((0, 0, 0, 0), 0), ((0, 0, 1, 1), 1)):
        laws = [sequences(how, h, renewals) for h in histories]
        found = max(worst(a, b) for a, b in itertools.combinations(laws, 2))
        allowed = longitudinal(ds.pure(epsilon=1), times).nano / 1e9
        assert found <= allowed + 1e-9
        assert found > allowed - epsilon + 0.5


def test_a_report_that_changed_with_the_data_would_have_no_epsilon():
    """Why renewals are public: drawn anew at each change, two reports that differ rule out a history without one."""
    how = Encoding("unary", 2, encoding(2, ds.pure(epsilon=1)).flip)
    unchanged = {(r, r): p for r, p in distribution(0, how).items()}
    one, two = distribution(0, how), distribution(1, how)
    changed = {(r, s): p * q for (r, p), (s, q) in itertools.product(one.items(), two.items())}
    assert any(pair not in unchanged for pair in changed)
    said = Asked(str(CITY_ID), COUNT, ds.pure(epsilon=1), PURPOSE)
    first, _ = said.report(None, [np.array([1, 0, 0, 0])])
    again = {said.report(first, [np.eye(4, dtype=np.int64)[i % 4]])[0] for i in range(50)}
    assert again == {first}


def test_asking_ten_thousand_times_gains_nothing_over_asking_once():
    """The averaging attack: many fresh draws show the category; with the kept report there is one, at one price."""
    asked, vectors = Asked(str(CITY_ID), COUNT, ds.pure(epsilon=1), PURPOSE), [np.array([0, 0, 1, 0])]
    bits = [np.unpackbits(np.frombuffer(asked.report(None, vectors)[0], np.uint8), bitorder="little")[:4]
            for _ in range(300)]  # fmt: skip
    assert int(np.argmax(np.sum(bits, axis=0))) == 2, "fresh draws give it away"
    vault, charged = {}, 0
    for _ in range(10_000):
        report, loss = asked.report(vault.get(asked.note), vectors)
        vault[asked.note], charged = report, charged + loss.nano
    assert charged == 10**9
    assert len(vault) == 1


def test_a_refusal_has_the_form_of_an_answer_and_a_law_within_the_loss():
    asked = Asked(str(CITY_ID), COUNT, ds.pure(epsilon=1), PURPOSE)
    refused, _ = asked.report(None, None)
    answered, _ = asked.report(None, [np.array([0, 1, 0, 0])])
    assert len(refused) == len(answered)
    how = asked.fit.how
    assert worst(distribution(None, how), distribution(1, how)) <= how.add_remove + 1e-9
