"""Prio3 in NumPy against the plain reference, for random parameters, and against damage."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasov.mpc import circuits, prio3
from tests.vdaf_reference import Reference

MAKERS = {
    "Count": prio3.prio3_count,
    "Sum": prio3.prio3_sum,
    "SumVec": prio3.prio3_sum_vec,
    "Histogram": prio3.prio3_histogram,
    "MultihotCountVec": prio3.prio3_multihot_count_vec,
}


@st.composite
def tasks(draw, batch=3):
    """A Prio3, its reference, and measurements."""
    name = draw(st.sampled_from(sorted(MAKERS)))
    length, chunk = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    maximum = draw(st.one_of(st.integers(1, 20), st.integers(1, 2**63 - 1)))
    given = {}
    if name == "Sum":
        given = {"max_measurement": maximum}
        one = st.integers(0, maximum)
    elif name == "SumVec":
        length = min(length, 2) if maximum > 20 else min(length, 4)
        given = {"length": length, "max_measurement": maximum, "chunk_length": chunk}
        one = st.lists(st.integers(0, maximum), min_size=length, max_size=length)
    elif name == "Histogram":
        given = {"length": length, "chunk_length": chunk}
        one = st.integers(0, length - 1)
    elif name == "MultihotCountVec":
        weight = draw(st.integers(1, length))
        given = {"length": length, "max_weight": weight, "chunk_length": chunk}
        sets = st.sets(st.integers(0, length - 1), max_size=weight)
        one = sets.map(lambda chosen: [i in chosen for i in range(length)])
    else:
        one = st.integers(0, 1)
    count = draw(st.integers(2, 4))
    measurements = draw(st.lists(one, min_size=batch, max_size=batch))
    return MAKERS[name](**given, shares=count), Reference(name, count, **given), measurements


def _octets(label, length):
    return hashlib.shake_128(label.encode()).digest(length)


def _nonces(measurements):
    return [_octets(f"nonce {i}", 16) for i in range(len(measurements))]


def _sum(measurements):
    if isinstance(measurements[0], list):
        return [sum(column) for column in zip(*measurements, strict=True)]
    return sum(measurements)


def _verify(vdaf, key, ctx, reports, replaced=None):
    """All steps; `replaced[agg_id]` maps a report's number to other (nonce, public share, input share)."""
    begun = []
    for j in range(vdaf.shares):
        rows = [(r.nonce, r.public_share, r.input_shares[j]) for r in reports]
        for number, row in (replaced or {}).get(j, {}).items():
            rows[number] = row
        begun.append(vdaf.verify_init(key, ctx, j, *zip(*rows, strict=True)))
    messages = vdaf.verifier_shares_to_message(ctx, [share for _, share in begun])
    return begun, messages, [vdaf.verify_next(state, messages) for state, _ in begun]


@settings(max_examples=25, deadline=None)
@given(tasks(), st.binary(max_size=40), st.integers(0, 2**32))
def test_every_byte_is_the_references(task, ctx, salt):
    vdaf, reference, measurements = task
    key, nonces = _octets(f"key {salt}", 32), _nonces(measurements)
    assert vdaf.rand_size == reference.rand_size
    rand = [_octets(f"rand {salt} {i}", vdaf.rand_size) for i in range(len(measurements))]
    reports = vdaf.shard(ctx, measurements, nonces, rand)
    begun, messages, outs = _verify(vdaf, key, ctx, reports)
    for i, report in enumerate(reports):
        public, inputs = reference.shard(ctx, measurements[i], nonces[i], rand[i])
        assert (report.public_share, list(report.input_shares)) == (public, inputs)
        slow = [reference.verify_init(key, ctx, j, nonces[i], public, inputs[j]) for j in range(vdaf.shares)]
        assert [share[i] for _, share in begun] == [share for _, _, share in slow]
        message = reference.message(ctx, [share for _, _, share in slow])
        assert message is not None
        assert messages[i] == message
        assert all(seed == message for _, seed, _ in slow)
        assert [out.encode()[i] for out in outs] == [reference.bytes(out) for out, _, _ in slow]
    found = vdaf.unshard([vdaf.aggregate([out]) for out in outs])
    if reference.name == "Histogram":
        assert found == [measurements.count(i) for i in range(reference.length)]
    else:
        assert found == _sum(measurements)


@pytest.mark.parametrize(("length", "chunk"), [(300, 300), pytest.param(260, 1, marks=pytest.mark.campaign)])
def test_sums_of_more_terms_than_are_added_at_once(length, chunk):
    """Of pairs within a call, and of calls: there the reference makes no proof, which would take it too long."""
    vdaf, key, ctx = prio3.prio3_histogram(length, chunk), bytes(range(32)), b"ctx"
    reference = Reference("Histogram", 2, length=length, chunk_length=chunk)
    nonces, rand = _nonces([0]), [_octets("rand", vdaf.rand_size)]
    [report] = vdaf.shard(ctx, [length - 1], nonces, rand)
    if chunk > 1:
        assert (report.public_share, list(report.input_shares)) == reference.shard(ctx, length - 1, nonces[0], rand[0])
    begun, [message], outs = _verify(vdaf, key, ctx, [report])
    for j, (_, [share]) in enumerate(begun):
        out, seed, slow = reference.verify_init(key, ctx, j, nonces[0], report.public_share, report.input_shares[j])
        assert (share, message) == (slow, seed)
        assert outs[j].encode() == [reference.bytes(out)]


@settings(max_examples=60, deadline=None)
@given(tasks(), st.data())
def test_any_flipped_bit_refuses_that_report_and_no_other(task, data):
    vdaf, reference, measurements = task
    key, ctx = bytes(range(32)), b"ctx"
    reports = vdaf.shard(ctx, measurements, _nonces(measurements))
    places = [(j, "input", 8 * len(reports[1].input_shares[j])) for j in range(vdaf.shares)]
    places += [(j, "public", 8 * len(reports[1].public_share)) for j in range(vdaf.shares) if reference.joint]
    j, where, size = data.draw(st.sampled_from(places))
    bit = data.draw(st.integers(0, size - 1))

    def flipped(octets):
        number = int.from_bytes(octets, "little") ^ 1 << bit
        return number.to_bytes(len(octets), "little")

    report = reports[1]
    public, share = report.public_share, report.input_shares[j]
    own = range(8 * 32 * j, 8 * 32 * (j + 1))
    if where == "public":
        public = flipped(public)
    else:
        share = flipped(share)
    _, messages, outs = _verify(vdaf, key, ctx, reports, {j: {1: (report.nonce, public, share)}})
    # What an aggregator replaces by its own part of the joint randomness changes nothing.
    harmless = where == "public" and bit in own
    assert all(out.valid[1] for out in outs) == harmless
    for out in outs:
        assert out.valid[0]
        assert out.valid[2]
    assert messages[0] is not None


@settings(max_examples=40, deadline=None)
@given(tasks(), st.data())
def test_a_flipped_bit_of_a_verifier_share_or_a_message_refuses_the_report(task, data):
    vdaf, _, measurements = task
    ctx = b"ctx"
    reports = vdaf.shard(ctx, measurements, _nonces(measurements))
    begun, messages, _ = _verify(vdaf, bytes(32), ctx, reports)
    shares = [list(share) for _, share in begun]
    j = data.draw(st.integers(0, vdaf.shares - 1))
    bit = data.draw(st.integers(0, 8 * len(shares[j][0]) - 1))
    damaged = bytearray(shares[j][0])
    damaged[bit // 8] ^= 1 << bit % 8
    shares[j][0] = bytes(damaged)
    again = vdaf.verifier_shares_to_message(ctx, shares)
    assert again[0] is None or again[0] != messages[0]
    assert again[1:] == messages[1:]
    out = vdaf.verify_next(begun[0][0], again)
    assert out.valid.tolist() == [False, True, True]


@settings(max_examples=20, deadline=None)
@given(tasks(), st.sampled_from(["key", "ctx", "nonce"]))
def test_another_key_context_or_nonce_at_one_aggregator_refuses_all(task, what):
    vdaf, reference, measurements = task
    reports = vdaf.shard(b"ctx", measurements, _nonces(measurements))
    begun = []
    for j in range(vdaf.shares):
        key = bytes([1] * 32) if j and what == "key" else bytes(32)
        ctx = b"cty" if j and what == "ctx" else b"ctx"
        nonces = [bytes([j]) + r.nonce[1:] if what == "nonce" else r.nonce for r in reports]
        shares = [r.input_shares[j] for r in reports]
        begun.append(vdaf.verify_init(key, ctx, j, nonces, [r.public_share for r in reports], shares))
    messages = vdaf.verifier_shares_to_message(b"ctx", [share for _, share in begun])
    outs = [vdaf.verify_next(state, messages) for state, _ in begun]
    assert not any(all(out.valid[i] for out in outs) for i in range(len(reports))), reference.name


def _forged(vdaf, vectors, monkeypatch):
    """Which reports of arbitrary vectors, (length, batch) of small integers, are accepted."""
    monkeypatch.setattr(circuits, "encode", lambda _circuit, columns: vectors[:, columns])
    batch = vectors.shape[1]
    reports = vdaf.shard(b"", range(batch), [i.to_bytes(16, "big") for i in range(batch)])
    _, _, outs = _verify(vdaf, bytes(32), b"", reports)
    assert all((out.valid == outs[0].valid).all() for out in outs)
    return outs[0].valid


def _is_valid(vdaf, vector):
    """Whether an encoded measurement is one, said again and plainly."""
    if not set(vector) <= {0, 1}:
        return False
    if vdaf.circuit.algorithm == 4:
        return sum(vector) == 1
    if vdaf.circuit.algorithm == 5:
        length = vdaf.circuit.outputs
        bits, most = vector[length:], vdaf.circuit.maximum
        rest = 2 ** (len(bits) - 1) - 1
        weight = sum(2**i * b for i, b in enumerate(bits[:-1])) + (most - rest) * bits[-1]
        return sum(vector[:length]) == weight
    return True


FORGED = [
    prio3.prio3_count(), prio3.prio3_sum(37), prio3.prio3_sum_vec(3, 5, 4), prio3.prio3_histogram(6, 4),
    prio3.prio3_multihot_count_vec(5, 2, 3),
]  # fmt: skip


def _vectors(vdaf, batch, seed):
    """Half of them bits, half with other numbers among them."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2, (vdaf.circuit.length, batch)) * (draw.random(batch) < 0.9)
    if vdaf.circuit.algorithm == 4:
        bits = (bits.cumsum(axis=0) <= 2) * bits
    other = draw.integers(-3, 4, bits.shape) * (draw.random(bits.shape) < 1.5 / vdaf.circuit.length)
    return (bits + other * (np.arange(batch) % 2)).astype(np.int64)


@pytest.mark.parametrize("vdaf", FORGED, ids=lambda vdaf: f"algorithm-{vdaf.circuit.algorithm}")
def test_only_valid_vectors_are_accepted(vdaf, monkeypatch):
    vectors = _vectors(vdaf, 512, 1)
    expected = [_is_valid(vdaf, column) for column in vectors.T.tolist()]
    assert 0 < sum(expected) < len(expected)
    assert _forged(vdaf, vectors, monkeypatch).tolist() == expected


@pytest.mark.campaign
@pytest.mark.parametrize("vdaf", FORGED, ids=lambda vdaf: f"algorithm-{vdaf.circuit.algorithm}")
def test_only_valid_vectors_are_accepted_among_many(vdaf, monkeypatch):
    for seed in range(25):
        vectors = _vectors(vdaf, 4096, 100 + seed)
        expected = [_is_valid(vdaf, column) for column in vectors.T.tolist()]
        assert _forged(vdaf, vectors, monkeypatch).tolist() == expected
