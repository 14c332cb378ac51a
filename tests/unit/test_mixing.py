"""A batch is admitted in a drawn order in which each resident's own contributions keep theirs."""

from __future__ import annotations

from collections import Counter

import datasov as ds
from datasov.errors import ConsentError
from datasov.pool.mixing import mixed
from tests.helpers import TRIPS, consent_for, contribution, found_city


def test_each_account_keeps_its_order_and_every_index_is_there_once(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        consents = {n: consent_for(city, TRIPS, n) for n in range(3)}
        pairs = [(consents[n % 3], contribution(city, consents[n % 3], n % 3, n + 1, TRIPS, [])) for n in range(9)]
        verified = [*(city._verified(p) for p in pairs), ConsentError("no")]
        seen = set()
        for _ in range(60):
            order = mixed(verified)
            assert sorted(order) == list(range(10))
            assert all([i for i in order if i < 9 and i % 3 == n] == [n, n + 3, n + 6] for n in range(3))
            seen.add(tuple(order))
        firsts = Counter(order[0] for order in seen)
        assert len(firsts) == 4, "three accounts and what was refused: each comes first now and then"
        assert city.admit_many(pairs) == [None] * 9
        (partition,) = city._registry.refresh()
        assert sorted(partition.columns["sequence"].tolist()) == [7, 8, 9]


def test_results_stand_in_the_order_of_the_pairs(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        consents = [consent_for(city, TRIPS, n) for n in range(20)]
        good = [(c, contribution(city, c, n, 1, TRIPS, [{"district": "N", "km": n}])) for n, c in enumerate(consents)]
        bad = {3: (consents[3], b"no"), 11: (consents[11], good[10][1])}
        refused = city.admit_many([bad.get(n, pair) for n, pair in enumerate(good)])
        assert [n for n, r in enumerate(refused) if r is not None] == [3, 11]
        assert isinstance(refused[3], ds.VerificationError)
