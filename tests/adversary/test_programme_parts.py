"""Claim: a programme that names which trust models answer together covers no others, and no fewer."""

from __future__ import annotations

import pytest

import datasov as ds
from datasov.errors import InvalidQueryError, ProgrammeError
from datasov.model.charter import DAY
from datasov.model.privacy import mixed
from datasov.model.programme import TRUSTS
from datasov.notices import read_notices
from tests.governing import TEMPLATE, charter_for, programme_for, signed
from tests.helpers import NOW, PURPOSE
from tests.locals import COUNT, PURE, city_of
from tests.servers import LONG, TRUST, opened

PARTS = (ds.central(), ds.local())


@pytest.mark.parametrize("named", TRUSTS)
def test_a_question_of_two_parts_runs_under_a_programme_that_names_them_or_any(tmp_path, clock, named):
    city, _ = city_of(tmp_path, clock, PARTS, processing="JP-25")
    with city:
        city.adopt(signed(charter_for(city)))
        loss = {"largest": PURE, "total": ds.pure(epsilon=4), "period": None, "period_days": 0}
        programme = programme_for(
            city, trust=(named,), mechanisms=("discrete Laplace, randomised response",), template=TEMPLATE, **loss
        )
        city.approve(signed(programme))
        clock.now = NOW + 3 * DAY
        before = city.remaining
        if named not in ("mixed", "central+local"):
            with pytest.raises(ProgrammeError, match="trust model is another"):
                opened(city, COUNT, clock, PURE)
            assert city.remaining == before
            return
        opened(city, COUNT, clock, PURE)
        clock.now += LONG
        city.release(COUNT, loss=PURE, purpose=PURPOSE)
        found = read_notices(city.log.leaves(), city.log.checkpoint(), city.id)
        assert len(found) > 0


def test_names_are_of_real_combinations_in_their_one_order(tmp_path, clock):
    city, _ = city_of(tmp_path, clock, PARTS)
    with city:
        for wrong in ("local+central", "central+central", "central+", "+", "central+mixed"):
            with pytest.raises(InvalidQueryError):
                programme_for(city, trust=(wrong,))
    for parts in (PARTS, (TRUST, ds.local()), (ds.central(), TRUST), (ds.central(), TRUST, ds.local())):
        assert "+".join(t.name for t in mixed(parts).each) in TRUSTS
