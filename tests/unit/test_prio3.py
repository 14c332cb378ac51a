"""What Prio3 refuses, and that what it refuses stops nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from datasov.errors import InvalidDataError, InvalidQueryError, VerificationError
from datasov.mpc import flp, prio3, xof
from datasov.mpc.prio3 import (
    Prio3,
    prio3_count,
    prio3_histogram,
    prio3_multihot_count_vec,
    prio3_sum,
    prio3_sum_vec,
)

KEY, CTX = bytes(range(32)), b"a task"


def _reports(vdaf: Prio3, measurements):
    return vdaf.shard(CTX, measurements, [i.to_bytes(16, "big") for i in range(len(measurements))])


def _run(vdaf, reports):
    begun = [
        vdaf.verify_init(
            KEY, CTX, j, [r.nonce for r in reports], [r.public_share for r in reports],
            [r.input_shares[j] for r in reports],
        )
        for j in range(vdaf.shares)
    ]  # fmt: skip
    messages = vdaf.verifier_shares_to_message(CTX, [shares for _, shares in begun])
    return [vdaf.verify_next(state, messages) for state, _ in begun]


@pytest.mark.parametrize(
    "make",
    [
        lambda: prio3_count(1),
        lambda: prio3_count(256),
        lambda: prio3_sum(0),
        lambda: prio3_sum(2**63),
        lambda: prio3_sum_vec(0, 1, 1),
        lambda: prio3_sum_vec(1, 2**127, 1),
        lambda: prio3_sum_vec(1, 1, 0),
        lambda: prio3_histogram(0, 1),
        lambda: prio3_histogram(4, -1),
        lambda: prio3_histogram(2**24 + 1, 5),
        lambda: prio3_histogram(4, 2**24 + 1),
        lambda: prio3_sum_vec(2**23, 2**2, 5),
        lambda: prio3_multihot_count_vec(4, 5, 2),
        lambda: prio3_multihot_count_vec(4, 0, 2),
        lambda: prio3_sum(True),
    ],
)
def test_parameters_that_the_draft_does_not_allow(make):
    with pytest.raises(InvalidQueryError):
        make()


@pytest.mark.parametrize(
    ("vdaf", "measurement"),
    [
        (prio3_count(), 2),
        (prio3_sum(7), 8),
        (prio3_sum(7), -1),
        (prio3_sum_vec(2, 3, 1), [1]),
        (prio3_sum_vec(2, 3, 1), [1, 4]),
        (prio3_histogram(4, 2), 4),
        (prio3_histogram(4, 2), -1),
        (prio3_multihot_count_vec(3, 1, 2), [True, True, False]),
        (prio3_multihot_count_vec(3, 2, 2), [2, 0, 0]),
        (prio3_sum(7), 1.0),
    ],
)
def test_measurements_out_of_range(vdaf, measurement):
    with pytest.raises(InvalidDataError):
        _reports(vdaf, [measurement])


@pytest.mark.parametrize("maximum", [1, 2, 5, 2**62, 2**63 - 1])
def test_the_largest_sums(maximum):
    vdaf = prio3_sum(maximum)
    outs = _run(vdaf, _reports(vdaf, [maximum, maximum, 0]))
    expected = 2 * maximum % vdaf.circuit.field.modulus
    assert vdaf.unshard([vdaf.aggregate([out]) for out in outs]) == expected


@pytest.mark.parametrize("vdaf", [prio3_count(), prio3_histogram(5, 2)])
def test_reports_that_do_not_decode_stop_no_other(vdaf):
    reports = _reports(vdaf, [1] * 8)
    size = vdaf.circuit.field.size
    leader = [bytearray(r.input_shares[0]) for r in reports]
    leader[1] += b"\0"
    del leader[2][-1]
    leader[3] = b""
    leader[4][:size] = vdaf.circuit.field.modulus.to_bytes(size, "little")
    leader[5][:size] = b"\xff" * size
    public = [r.public_share for r in reports]
    public[6] += b"\0"
    nonces = [r.nonce for r in reports]
    nonces[7] = nonces[7][:-1]
    state, shares = vdaf.verify_init(KEY, CTX, 0, nonces, public, [bytes(x) for x in leader])
    assert [share is not None for share in shares] == [True] + [False] * 7
    helpers = [r.input_shares[1] for r in reports]
    helpers[1] += b"\0"
    other, seeded = vdaf.verify_init(KEY, CTX, 1, nonces, public, helpers)
    assert [share is not None for share in seeded] == [True, False, True, True, True, True, False, False]
    messages = vdaf.verifier_shares_to_message(CTX, [shares, seeded])
    assert [message is not None for message in messages] == [True] + [False] * 7
    outs = [vdaf.verify_next(state, messages), vdaf.verify_next(other, messages)]
    assert outs[0].encode()[1:] == [None] * 7
    # Nor does a message that fits make up for a share that did not decode.
    assert vdaf.verify_next(state, [seed.tobytes() for seed in state.seeds]).valid.tolist() == [True] + [False] * 7
    total = vdaf.unshard([vdaf.aggregate([out]) for out in outs])
    assert total == (1 if vdaf.circuit.scalar else [0, 1, 0, 0, 0])


def test_a_verifier_share_is_decoded_strictly():
    vdaf = prio3_count()
    reports = _reports(vdaf, [1])
    field, length = vdaf.circuit.field, vdaf.circuit.verifier_length
    both = [
        vdaf.verify_init(KEY, CTX, j, [reports[0].nonce], [b""], [reports[0].input_shares[j]])[1][0] for j in range(2)
    ]
    words = [[int.from_bytes(share[i : i + 8], "little") for i in range(0, 8 * length, 8)] for share in both]
    verifier = [sum(each) % field.modulus for each in zip(*words, strict=True)]
    assert verifier[0] == 0
    whole = b"".join(value.to_bytes(8, "little") for value in verifier)
    rest = bytes(8 * length)
    # The same residue, once below the modulus and once as the modulus.
    same = field.modulus.to_bytes(8, "little") + whole[8:]
    shares = [whole, same, whole + b"\0", whole[:-1], None]
    assert vdaf.verifier_shares_to_message(CTX, [shares, [rest] * 5]) == [b"", None, None, None, None]


def test_aggregate_shares_are_decoded_strictly():
    vdaf = prio3_histogram(3, 2)
    outs = _run(vdaf, _reports(vdaf, [0, 2, 2]))
    good = [vdaf.aggregate([out]) for out in outs]
    assert vdaf.unshard(good) == [1, 0, 2]
    p = vdaf.circuit.field.modulus
    for bad in (good[1][:-1], good[1] + b"\0", b"", p.to_bytes(16, "little") + good[1][16:], b"\xff" * 48):
        with pytest.raises(VerificationError):
            vdaf.unshard([good[0], bad])
    with pytest.raises(InvalidDataError):
        vdaf.unshard(good[:1])


def test_batches_add_up_in_any_grouping():
    vdaf = prio3_sum_vec(3, 200, 4, shares=3)
    draw = np.random.default_rng(2)
    measurements = draw.integers(0, 201, (prio3.MOST_AT_ONCE + 70, 3)).tolist()
    reports = _reports(vdaf, measurements)
    expected = np.sum(measurements, axis=0).tolist()
    whole = [vdaf.aggregate([out]) for out in _run(vdaf, reports)]
    parts = [_run(vdaf, reports[at : at + 100]) for at in range(0, len(reports), 100)]
    together = [vdaf.aggregate([part[j] for part in parts]) for j in range(3)]
    merged = [vdaf.merge([vdaf.aggregate([part[j]]) for part in parts]) for j in range(3)]
    assert whole == together == merged
    assert vdaf.unshard(whole) == expected


def test_an_empty_batch_adds_nothing():
    vdaf = prio3_histogram(3, 2)
    outs = _run(vdaf, [])
    assert vdaf.unshard([vdaf.aggregate([out]) for out in outs]) == [0, 0, 0]
    assert vdaf.unshard([vdaf.aggregate([])] * 2) == [0, 0, 0]


def test_as_many_aggregators_as_the_draft_allows():
    for vdaf, expected in ((prio3_count(255), 2), (prio3_histogram(2, 1, shares=40), [1, 2])):
        outs = _run(vdaf, _reports(vdaf, [0, 1, 1]))
        assert vdaf.unshard([vdaf.aggregate([out]) for out in outs]) == expected


def test_without_the_extra_the_bytes_are_the_same(monkeypatch):
    vdaf = prio3_histogram(20, 4)
    nonces, rand = [bytes(16)] * 3, [bytes([i]) * vdaf.rand_size for i in range(3)]
    with_it = vdaf.shard(CTX, [1, 2, 3], nonces, rand)
    monkeypatch.setattr(xof, "one_by_one", lambda: None)
    assert vdaf.shard(CTX, [1, 2, 3], nonces, rand) == with_it


def test_fresh_randomness_each_time():
    vdaf = prio3_count()
    first, second = (vdaf.shard(CTX, [1], [bytes(16)])[0] for _ in range(2))
    assert first.input_shares[1] != second.input_shares[1]


def test_arguments_of_the_wrong_form():
    vdaf = prio3_count()
    [report] = _reports(vdaf, [1])
    args = [report.nonce], [report.public_share], [report.input_shares[0]]
    for key, agg_id in ((KEY[:-1], 0), (KEY, 2), (KEY, -1)):
        with pytest.raises(InvalidDataError):
            vdaf.verify_init(key, CTX, agg_id, *args)
    with pytest.raises(InvalidDataError):
        vdaf.verify_init(KEY, CTX, 0, [], *args[1:])
    state, shares = vdaf.verify_init(KEY, CTX, 0, *args)
    for wrong in ([shares], [shares, []], [shares] * 3):
        with pytest.raises(InvalidDataError):
            vdaf.verifier_shares_to_message(CTX, wrong)
    with pytest.raises(InvalidDataError):
        vdaf.verify_next(state, [])
    for nonces, rand in (([b""], None), ([], None), ([bytes(16)], [b""])):
        with pytest.raises(InvalidDataError):
            vdaf.shard(CTX, [1], nonces, rand)
    with pytest.raises(InvalidQueryError):
        vdaf.shard(bytes(65528), [1], [bytes(16)])


@pytest.mark.parametrize("vdaf", [prio3_count(), prio3_sum(9), prio3_histogram(5, 2)])
def test_a_test_point_that_is_a_root_of_unity_is_refused(vdaf):
    """At such a point a wire's value is the measurement's. The hash hardly ever draws one: here it is put there."""
    circuit = vdaf.circuit
    field, size = circuit.field, circuit.wire_size
    root = field.root(size)
    points = [root, 1, 2, field.modulus - 1, field.root(2 * size), pow(root, 3, field.modulus)]
    rand = np.concatenate(
        [field.of([5] * 6 * (circuit.query_rand_length - 1)).reshape(field.limbs, -1, 6), field.of(points)[:, None]],
        axis=1,
    )
    zeros = (np.zeros((field.limbs, n, 6), np.int64) for n in (circuit.length, circuit.proof_length))
    joint = np.zeros((field.limbs, circuit.joint_rand_length, 6), np.int64)
    _, refused = flp.query(circuit, *zeros, rand, joint, 2)
    assert refused.tolist() == [True, True, False, True, False, True]
