"""What devices send to two servers: any question's bounded vectors are valid reports, which add up exactly.

The vectors are those of tests/property/test_sensitivity.py, which holds them to the plan's bounds and prices.
"""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.kernel.plan import compile
from datasov.model.privacy import Loss
from datasov.mpc import circuits, fitting
from datasov.mpc.fitting import Fit
from tests.helpers import within
from tests.property.test_sensitivity import exact_vector
from tests.strategies import Case, cases

LOSS = Loss(3 * 10**8)
CONTEXT = b"a context"


def added(fit: Fit, vectors: list[np.ndarray]) -> list[int]:
    """Through the whole function: both aggregators find every report valid, and the sum of their shares."""
    measured, nonces = [fit.measure(v) for v in vectors], [secrets.token_bytes(16) for _ in vectors]
    reports, key, vdaf = fit.vdaf.shard(CONTEXT, measured, nonces), secrets.token_bytes(32), fit.vdaf
    begun = [
        vdaf.verify_init(
            key, CONTEXT, role, nonces, [r.public_share for r in reports], [r.input_shares[role] for r in reports]
        )
        for role in (0, 1)
    ]
    messages = vdaf.verifier_shares_to_message(CONTEXT, [shares for _, shares in begun])
    outs = [vdaf.verify_next(state, messages) for state, _ in begun]
    assert all(out.valid.all() for out in outs), "an honest device is refused"
    shares = [vdaf.aggregate([out]) for out in outs]
    if fit.kind == "histogram":
        shares = [share[: -vdaf.circuit.field.size] for share in shares]
    return fit.joined(shares[0], shares[1], len(vectors)).tolist()


def check(case: Case) -> bool:
    """Whether two servers can answer the question at all."""
    plan = compile(case.query)
    try:
        fits = fitting.fit(plan, LOSS)
    except InvalidQueryError:
        return False
    if sum(f.encoded for f in fits) > 600:
        return False
    vectors = [exact_vector(case, name) for name in case.rows]
    assert all(within(plan, v) for v in vectors)
    vectors.append(np.zeros_like(vectors[0]))  # a null report
    for place, (fit, statistic) in enumerate(zip(fits, plan.statistics, strict=True)):
        own = [v[place][: fit.entries] for v in vectors]
        assert added(fit, own) == np.sum(own, axis=0).tolist()
        if fit.kind != "histogram":
            too_much = np.zeros(fit.entries, dtype=np.int64)
            too_much[-1] = statistic.most + 1
            with pytest.raises(InvalidDataError):
                circuits.encode(fit.vdaf.circuit, [fit.measure(too_much)])
    return True


@settings(max_examples=12, deadline=None)
@given(cases())
def test_any_questions_vectors_are_valid_reports_that_add_up(case):
    check(case)


@pytest.mark.campaign
@settings(max_examples=400, deadline=None)
@given(cases())
def test_any_questions_vectors_are_valid_reports_that_add_up_in_400_cases(case):
    check(case)
