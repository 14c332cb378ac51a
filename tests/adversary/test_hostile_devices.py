"""A device, or a line that breaks, that would stop two aggregators: they go on agreeing. docs/spec/two-server.md"""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import leader
from datasov.crypto.kdf import random
from datasov.crypto.seal import seal
from datasov.errors import DatasovError, InvalidDataError, InvalidQueryError, PeerError, VerificationError
from datasov.kernel.plan import compile
from datasov.model.document import canonical
from datasov.mpc import circuits, derive, fitting, flp
from datasov.mpc.codec import encode
from datasov.mpc.ntt import odd_values
from datasov.mpc.report import Report, info, make_reports
from datasov.mpc.task import KIND, check_open, read_task
from datasov.wire import cose
from tests.helpers import PURPOSE, TRIPS
from tests.servers import CITY_KEYS, IDS, LONG, LOSS, made_task, opened, silent, two_server_city

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
LARGEST = {
    "sums": ds.query(TRIPS).keys("district").bound(rows=2, keys=2).count(),
    "multihot": ds.query(TRIPS).keys("district").bound(rows=4, keys=4).distinct(),
    "histogram": CELL,
}


@pytest.fixture
def pair(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    yield city, servers
    city.close()


def forged(fit, context, vector, nonce, role):
    """Shares of a vector, and a public share that names a wrong part of the joint randomness for this aggregator.

    So that one computes its checks under other randomness than what the message tells. The proof is made for the wires
    as both will have them together.
    """
    circuit, field = fit.vdaf.circuit, fit.vdaf.circuit.field
    seed, blinds = np.frombuffer(random(32), np.uint8)[None], [np.frombuffer(random(32), np.uint8)[None] for _ in "ab"]
    theirs = derive.helper_share(circuit, context, 1, seed, derive.MEASUREMENT)
    bits = circuits.encode(circuit, [fit.measure(vector)])
    whole = np.zeros((field.limbs, *bits.shape), np.int64)
    whole[0] = bits
    mine = field.to_words(field.tidy(whole - field.of_words(theirs)))
    nonces = np.frombuffer(nonce, np.uint8)[None]
    parts = [derive.joint_rand_part(circuit, context, i, blinds[i], nonces, w) for i, w in enumerate((mine, theirs))]
    true = np.concatenate(parts, axis=1)
    told = true.copy()
    told[:, 32 * role] ^= 1
    # Who finds its own part damaged puts the true one there: the *other* one goes by what was told.
    rands = [
        derive.joint_rand(circuit, context, derive.joint_rand_seed(circuit, context, true if i == role else told))
        for i in (0, 1)
    ]
    wires = np.zeros((field.limbs, circuit.wire_size, circuit.arity, 1), np.int64)
    each = [flp._wires(circuit, field.of_words(w), r) for w, r in zip((mine, theirs), rands, strict=True)]
    wires[:, 0] = seeds = field.of_words(
        derive.draw(circuit, derive.PROVE, context, random(32), [b"\1"], circuit.arity, 1)
    )
    wires[:, 1 : 1 + circuit.calls, 0::2] = field.tidy(each[0] + each[1])[:, :, 0::2]
    wires[:, 1 : 1 + circuit.calls, 1::2] = flp._wires(circuit, whole, rands[0])[:, :, 1::2]
    values = np.empty((field.limbs, 2 * circuit.wire_size, 1), np.int64)
    values[:, 0::2] = flp._gadget(circuit, wires.swapaxes(1, 2))
    values[:, 1::2] = flp._gadget(circuit, odd_values(field, wires).swapaxes(1, 2))
    proof = np.concatenate([seeds, values[:, :-1]], axis=1)
    proof = field.tidy(proof - field.of_words(derive.helper_share(circuit, context, 1, seed, derive.PROOF)))
    leaders = encode(mine).tobytes() + encode(field.to_words(proof)).tobytes() + blinds[0].tobytes()
    return told.tobytes(), (leaders, seed.tobytes() + blinds[1].tobytes())


def told_otherwise(task, vectors, role):
    """A report that damages what its public share says of this aggregator's joint randomness."""
    nonce = random(16)
    made = [forged(f, task.context(p), vectors[p], nonce, role) for p, f in enumerate(task.fits)]
    publics = tuple(public for public, _ in made)
    sealed = [
        seal(IDS[i].seal_key, b"".join(shares[i] for _, shares in made), info(task, i, nonce, publics)) for i in (0, 1)
    ]
    return Report(task.id, nonce, publics, (sealed[0], sealed[1])).to_bytes()


@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("question", LARGEST)
def test_no_device_makes_the_aggregators_count_different_reports(pair, clock, question, role, monkeypatch):
    """With all bits set every check is zero under any joint randomness, so that the proof holds whatever is told."""
    silent(monkeypatch)
    city, servers = pair
    query = LARGEST[question]
    task = read_task(opened(city, query, clock))
    (fit,) = task.fits
    most = [np.full(fit.entries, fit.maximum if fit.kind == "sum-vec" else int(fit.kind == "multihot"))]
    good = make_reports(task, [most])
    servers.upload([told_otherwise(task, most, role), *good])
    clock.now += LONG
    release = city.release(query, loss=LOSS, purpose=PURPOSE)
    assert [v.tolist() for v in release.values] == [most[0].tolist()]


def test_a_lost_answer_does_not_stop_the_batches_behind_it(pair, clock, monkeypatch):
    """The helper took a batch in, and its answer never came, while the leader had the next one at hand."""
    silent(monkeypatch)
    monkeypatch.setattr(leader, "BATCH", 4)
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    reports = make_reports(task, [[np.array([1, 0, 0, 0])]] * 12)
    for at in range(0, 12, 4):
        servers.upload(reports[at : at + 4])
    whole, lost = servers.post, []

    def lossy(to, path, body):
        answer = whole(to, path, body)
        if path == "jobs" and not lost:
            lost.append(path)
            raise PeerError("the line broke")
        return answer

    servers.leader.post = lossy
    with pytest.raises(PeerError):
        servers.leader.work()
    assert servers.leader.work() == 3
    clock.now += LONG
    assert city.release(CELL, loss=LOSS, purpose=PURPOSE).values[0].tolist() == [12, 0, 0, 0]


def test_a_task_that_waits_does_not_stop_the_others(pair, clock, monkeypatch):
    silent(monkeypatch)
    monkeypatch.setattr(leader, "BATCH", 4)
    city, servers = pair
    queries = [CELL, CELL.where(ds.col("km") > 3)]
    tasks = [read_task(opened(city, q, clock)) for q in queries]
    for task in tasks:
        servers.upload(make_reports(task, [[np.array([1, 0, 0, 0])]] * 4))
    whole = servers.post

    def stuck(to, path, body):
        if path == "jobs" and tasks[0].id in body:
            raise PeerError("not this one")
        return whole(to, path, body)

    servers.leader.post = stuck
    with pytest.raises(PeerError):
        servers.leader.work()
    assert servers.helper.store.length("jobs/" + tasks[1].id.hex()) == 1


def test_a_report_at_the_last_moment_does_not_change_a_batch_that_was_sent(pair, clock, monkeypatch):
    """The end comes while a report is being kept, and the answer to the last batch is lost: it is asked for again."""
    silent(monkeypatch)
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    first, late = make_reports(task, [[np.array([1, 0, 0, 0])]] * 2)
    servers.upload([first])
    whole, store, lost, faults = servers.post, servers.leader.store, [], []

    def lossy(to, path, body):
        answer = whole(to, path, body)
        if path == "jobs" and not lost:
            lost.append(path)
            raise PeerError("the line broke")
        return answer

    def worked():
        try:
            servers.leader.work()
        except DatasovError as fault:
            faults.append(fault)

    class Slow:
        def __getattr__(self, name):
            return getattr(store, name)

        def append(self, batch, blobs=None):
            if any(name.startswith("uploads/") for name in batch):
                clock.now += LONG
                worker.start()
                worker.join(timeout=1)
            store.append(batch, blobs)

    worker = threading.Thread(target=worked)
    servers.leader.post, servers.leader.store = lossy, Slow()
    servers.upload([late])
    worker.join()
    assert len(faults) == len(lost) == 1
    servers.leader.store = store
    assert city.release(CELL, loss=LOSS, purpose=PURPOSE).values[0].sum() == 2


@pytest.mark.parametrize(
    "given",
    [
        {"until": 2**63},
        {"until": 0},
        {"opened": -1},
        {"epoch": -1},
        {"epoch": 2**63},
        {"cohort": -1},
        {"salt": "00" * 15},
    ],
)
def test_a_task_of_a_corrupt_city_has_numbers_that_can_be_kept(clock, given):
    """Signed by its city, and otherwise as it should be."""
    task = read_task(made_task(CELL, clock)[0])
    doc = {**json.loads(task.text), **given}
    with pytest.raises(VerificationError, match="not a task"):
        read_task(cose.sign1(canonical(doc), CITY_KEYS[0], KIND))


def test_a_task_under_central_trust_alone_is_none(clock):
    """Devices have nothing to answer there, and no aggregator to answer to."""
    signed, _ = made_task(CELL, clock, trust=ds.central())
    with pytest.raises(VerificationError, match="not a task"):
        read_task(signed)


def test_a_task_takes_reports_in_its_time_alone_up_to_a_days_difference_of_clocks(clock):
    task = read_task(made_task(CELL, clock)[0])
    for now in (task.opened - 86_401, task.until):
        with pytest.raises(InvalidDataError, match="takes no reports now"):
            check_open(task, now)
    for now in (task.opened - 86_400, task.opened, task.until - 1):
        check_open(task, now)


def test_a_question_that_is_too_large_is_refused_before_anything_of_its_size_is_made(monkeypatch):
    """Anybody may sign a task: whoever reads it must not hold a circuit of 2^24 elements, and not 256 of them."""
    made, real = [], fitting._vdaf
    monkeypatch.setattr(fitting, "_vdaf", lambda found: (made.append(found.encoded), real(found))[1])
    names = {c: ds.Category([f"{c}{i}" for i in range(1200)]) for c in "ab"}
    schema = ds.Schema("wide", domain="mobility", columns={**names, "km": ds.Integer(0, 20)}, keys=[("a", "b")])
    narrow, wide = (ds.query(schema).keys(*keys).bound(rows=1, keys=1) for keys in (("a",), ("a", "b")))
    for asked in (narrow.count(), narrow.distinct(), narrow.bound(rows=2, keys=2).mean("km")):
        found = fitting.fit(compile(asked), LOSS)
        assert [f.encoded for f in found] == [f.vdaf.circuit.length for f in found]
    assert made
    made.clear()
    for asked in (wide.count(), wide.distinct(), wide.bound(rows=2, keys=2).mean("km")):
        with pytest.raises(InvalidQueryError, match="too large"):
            fitting.fit(compile(asked), LOSS)
    assert not made
