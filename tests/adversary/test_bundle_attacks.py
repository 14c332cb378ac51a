"""Claim: a bundle of receipts that somebody else made is verified or refused, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import datasov as ds
from datasov.errors import ProofError
from datasov.model.charter import DAY
from datasov.model.document import canonical
from datasov.tlog.bundle import pack_bundle, verify_bundle
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, encode_leaf
from datasov.tlog.receipt import receipt
from datasov.tlog.whole import read_whole
from datasov.wire import cbor
from tests.governing import COUNTS, governed_city, programme_for, release, signed
from tests.helpers import COUNT, NOW, PURPOSE, RHO, TRIPS, Clock
from tests.logs import KEY, ORIGIN, log_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A governed city with two releases under a programme, and the fields of an honest bundle of them."""
    clock = Clock()
    with governed_city(tmp_path_factory.mktemp("governed"), clock) as city:
        city.approve(signed(programme_for(city)))
        clock.now += 3 * DAY
        for number in (4, 3):
            release(city, COUNTS.bound(rows=number))
        whole = read_whole(city.log, [city.id])
        head = whole.checkpoint
        found = [receipt(city.log, i, head, city.log.public, city.log.origin) for i in (head.size - 2, head.size - 1)]
        assert all(r.release for r in found)
        yield city, whole, pack_bundle(whole, found)


Change = Callable[[dict[int, Any], Any], None]


def as_statement(fields: dict[int, Any], whole: Any) -> None:
    """A notice that is no operator's, where the operators' statements stand."""
    index, leaf, proof = fields[4][0]
    fields[3] = [[index, leaf, proof, list(whole.tree.consistency(index, whole.checkpoint.size))]]


def no_number(fields: dict[int, Any], _: Any) -> None:
    fields[5][0][3] = []


def a_map(fields: dict[int, Any], _: Any) -> None:
    fields[5][0][3] = {1: 2}


def twice(fields: dict[int, Any], _: Any) -> None:
    fields[5].append(fields[5][-1])


def backwards(fields: dict[int, Any], _: Any) -> None:
    fields[5].reverse()


def as_truth(fields: dict[int, Any], _: Any) -> None:
    fields[5][0][3] = True


def another_approval(fields: dict[int, Any], whole: Any) -> None:
    """The charter's notice in the place of the programme's."""
    fields[4] = [[0, whole.leaves[0], list(whole.inclusion(0))]]
    for each in fields[5]:
        each[3] = 0


@pytest.mark.parametrize(
    "change", [as_statement, no_number, a_map, twice, backwards, as_truth, another_approval], ids=lambda c: c.__name__
)
def test_a_bundle_that_is_not_as_it_should_be_is_refused(made: tuple[ds.City, Any, bytes], change: Change):
    city, whole, honest = made
    assert len(verify_bundle(honest, city.id).receipts) == 2
    fields = cbor.decode(honest)
    assert isinstance(fields, dict)
    change(fields, whole)
    with pytest.raises(ProofError):
        verify_bundle(cbor.encode(fields), city.id)


@pytest.mark.parametrize(("subject", "fine"), [("programme", True), ("emergency", True), ("charter", False)])
def test_a_release_is_approved_by_a_programme_alone(subject: str, fine: bool):
    found = ReleaseLeaf(
        purpose=PURPOSE, tables=(("trips", TRIPS.digest, ("district",)),), question=canonical(COUNT.document()),
        query_digest=COUNT.digest, mechanism="discrete Gaussian", loss=RHO, trust="central", epoch=3, time=NOW,
        result_digest=bytes(32), release_id=bytes(16), programme=bytes(range(32)),
    )  # fmt: skip
    notice = NoticeLeaf(subject, NOW, bytes(range(32)), b"anything")
    log = log_of([encode_leaf(notice), encode_leaf(found)])
    head = log.checkpoint()
    if fine:
        assert receipt(log, 1, head, KEY.public, ORIGIN).approval is not None
    else:
        with pytest.raises(ProofError, match="approves nothing"):
            receipt(log, 1, head, KEY.public, ORIGIN)
