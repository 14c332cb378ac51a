"""Reports of one task in columns: read as strictly as one by one, and told whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator.held import mixed_in
from datasov.aggregator.messages import pack, unpack
from datasov.aggregator.seen import Seen, digests, marks
from datasov.crypto.kdf import sha256
from datasov.errors import VerificationError
from datasov.mpc.report import Report, make_reports, read_columns
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.helpers import COUNT, TRIPS
from tests.servers import made_task, vectors

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
SUMS = ds.query(TRIPS).keys("district").bound(rows=2, keys=2).mean("km")
TOTAL = ds.query(TRIPS).bound(rows=1).count()
QUESTIONS = {"histogram": CELL, "multihot": COUNT.distinct(), "two statistics": SUMS, "without joint randomness": TOTAL}


NONCE, HELPERS = (lambda report: report.nonce), (lambda report: report.sealed[1])


def task_of(question, clock):
    return read_task(made_task(QUESTIONS[question], clock)[0])


@pytest.mark.parametrize("question", QUESTIONS)
def test_columns_hold_what_reports_hold(question, clock):
    task = task_of(question, clock)
    data = make_reports(task, [vectors(task)] * 5)
    columns, reports = read_columns(task, data), [Report.from_bytes(each) for each in data]
    assert columns.nonces == [r.nonce for r in reports]
    assert columns.sealed == tuple([r.sealed[role] for r in reports] for role in (0, 1))
    assert [list(each) for each in columns.public] == [[r.public[p] for r in reports] for p in range(len(task.fits))]
    some = columns.at([3, 1])
    assert (some.nonces, some.sealed[1]) == (
        [reports[3].nonce, reports[1].nonce],
        [r.sealed[1] for r in reports[3:0:-2]],
    )
    assert list(read_columns(task, []).nonces) == list(columns.at([]).nonces) == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_byte_that_is_in_no_part_of_a_report_is_fixed(question, clock):
    """Every byte in turn: what is read back is the same bytes, or it is refused."""
    task = task_of(question, clock)
    (data,) = make_reports(task, [vectors(task)])
    refused = 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            columns = read_columns(task, [data, bytes(changed)])
        except VerificationError:
            refused += 1
        else:
            public = tuple(part[1] for part in columns.public)
            found = Report(task.id, columns.nonces[1], public, (columns.sealed[0][1], columns.sealed[1][1]))
            assert found.to_bytes() == bytes(changed) != data
    assert refused == len(data) - len(b"".join([*(p[0] for p in columns.public), *(s[0] for s in columns.sealed)])) - 16


def test_reports_of_another_task_size_or_kind_are_refused(clock):
    task, other = task_of("histogram", clock), task_of("histogram", clock)
    (good,) = make_reports(task, [vectors(task)])
    report = Report.from_bytes(good)
    for bad in (
        make_reports(other, [vectors(other)])[0],
        replace(report, sealed=(report.sealed[0][:-1], report.sealed[1] + b"?")).to_bytes(),
        replace(report, sealed=report.sealed[::-1]).to_bytes(),
        replace(report, public=(report.public[0], b"")).to_bytes(),
        good + b"\0",
        good[:-1],
        b"",
        bytearray(good),
        cbor.decode(good),
        None,
    ):
        with pytest.raises(VerificationError, match="another size"):
            read_columns(task, [good, bad])


@pytest.mark.parametrize("size", [0, 1, 32])
def test_what_is_packed_comes_out_and_nothing_else_does(size):
    items = [b"\1" * size, None, bytes(size), None, None, b"\xff" * size]
    packed = pack(items, size)
    assert unpack(packed, size, 6) == items
    for bad, count in ((packed, 5), (packed[:-1], 6), (packed + b"\0", 6), (b"\2" + packed[1:], 6), (list(items), 6)):
        with pytest.raises(VerificationError):
            unpack(bad, size, count)
    assert unpack(b"", size, 0) == []


def test_what_was_seen_is_what_a_set_says():
    rng, seen, told = np.random.default_rng(3), Seen(), set()
    for _ in range(60):
        batch = [int(n).to_bytes(4, "big") for n in rng.integers(0, 9000, rng.integers(0, 300))]
        found = marks(digests(batch))
        assert seen.known(found).tolist() == [b in told for b in batch]
        seen.add(found)
        told.update(batch)
    assert len(told) > 4000
    assert seen.known(marks(digests([]))).tolist() == []


def test_a_checksum_is_the_exclusive_or_of_the_digests():
    nonces = [bytes([n]) * 16 for n in range(9)]
    expected = 0
    for nonce in nonces:
        expected ^= int.from_bytes(sha256(nonce), "big")
    half = mixed_in(bytes(32), digests(nonces[:4]))
    assert mixed_in(half, digests(nonces[4:])) == expected.to_bytes(32, "big")
    assert mixed_in(half, digests([])) == half
