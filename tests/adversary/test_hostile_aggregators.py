"""Claims of two aggregators against each other, the network and strangers. docs/proofs/two-server.md, conformance.md

A stranger who sends what takes long to read; a city that is not served; a leader or a helper that answers what it
likes; a copy of a store that is brought back; clocks that differ; two who collect at once.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import xor

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import client, leader, messages, place
from datasov.aggregator.aggregator import LONGEST
from datasov.city import collecting
from datasov.crypto.kdf import random
from datasov.crypto.seal import seal
from datasov.errors import DatasovError, InvalidDataError, PeerError, StoreError, VerificationError
from datasov.kernel.plan import compile
from datasov.mpc import fitting
from datasov.mpc import task as tasks
from datasov.mpc.field import FIELD128
from datasov.mpc.report import Report, info, make_reports
from datasov.mpc.task import read_task
from datasov.wire import cbor
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.servers import CITY_KEYS, IDS, LONG, LOSS, URLS, made_task, opened, silent, two_server_city

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
ONE = np.array([1, 0, 0, 0])


@pytest.fixture
def pair(tmp_path, clock):
    city, servers = two_server_city(tmp_path, clock)
    yield city, servers
    city.close()


def ask(servers, path, body):
    """As the leader, which the helper must answer."""
    return messages.request(servers.leader.signing, IDS[1], path, body).send(servers.post)


# --- strangers


@pytest.mark.parametrize("item", [b"\x00", b"\x80", b"\xa0", b"\x40"], ids=["numbers", "lists", "maps", "bytes"])
def test_a_message_of_very_many_items_is_refused_before_it_is_read(pair, item, monkeypatch):
    _, servers = pair
    monkeypatch.setattr(cbor, "MOST_ITEMS", 5000)
    monkeypatch.setattr(cbor.cbor2, "loads", lambda *_, **__: pytest.fail("it was read"))
    body = b"\x9a" + (cbor.MOST_ITEMS + 1).to_bytes(4, "big") + item * (cbor.MOST_ITEMS + 1)
    with pytest.raises(VerificationError, match="too many items"):
        servers.leader.handle("reports", body)
    with pytest.raises(VerificationError, match="too many items"):
        Report.from_bytes(body)


def test_items_are_counted_as_they_stand():
    values = [b"", "text", [1, -25, 300, 2**40, None, True], {1: b"x" * 70_000, "k": [b"y" * 300, "z" * 24]}, b"q" * 24]
    data = cbor.encode(values)
    assert cbor.decode(data, most_items=18) == values
    with pytest.raises(VerificationError, match="too many items"):
        cbor.decode(data * 2, most_items=17)
    for most in (17, 18):
        assert cbor._crowded(data, most) == (most < 18)
    assert not cbor._crowded(cbor.encode(b"\x80" * 1000), 1)


def test_a_request_is_as_long_as_its_path_needs(pair):
    _, servers = pair
    for path, most in LONGEST.items():
        with pytest.raises(InvalidDataError, match="too long"):
            servers.leader.handle(path, bytes(most + 1))


def test_a_question_of_a_city_that_is_not_served_is_not_compiled(pair, clock, monkeypatch):
    city, servers = pair
    signed = opened(city, CELL, clock)
    servers.leader.cities = servers.helper.cities = frozenset()
    monkeypatch.setattr(tasks, "compile", lambda *_: pytest.fail("it was compiled"))
    for who in servers.both:
        with pytest.raises(ds.ConsentError, match="serves"):
            who.handle("tasks", signed)
    changed = bytearray(signed)
    changed[-1] ^= 1
    with pytest.raises(VerificationError):
        servers.leader.handle("tasks", bytes(changed))


def test_a_task_for_others_or_that_is_over_costs_nothing(pair, clock):
    _, servers = pair
    other = ds.AggregatorId("city", URLS[0], IDS[0].verify_key[::-1], IDS[0].seal_key[::-1])
    served = frozenset([str(ds.CityId("keys", CITY_KEYS[0].public, CITY_KEYS[1].public))])
    for who in servers.both:
        who.cities, before = served, who.remaining
        third = replace(IDS[1], name="third", url="http://127.0.0.1:7303", verify_key=bytes(32))
        signed, _ = made_task(CELL, clock, trust=ds.two_server(city=other, council=third))
        with pytest.raises(ds.ConsentError, match="another aggregator"):
            who.handle("tasks", signed)
        signed, _ = made_task(CELL, clock)
        clock.now += LONG
        with pytest.raises(InvalidDataError, match="is over"):
            who.handle("tasks", signed)
        assert who.remaining == before


def test_a_question_of_more_statistics_than_a_report_names_is_refused_before_anything_is_spent(
    pair, clock, monkeypatch
):
    assert fitting.MOST_STATISTICS == 1024, "as many public shares as a report may have"
    monkeypatch.setattr(fitting, "MOST_STATISTICS", 30)
    city, _ = pair
    columns = {f"c{n}": ds.Integer(0, 1) for n in range(fitting.MOST_STATISTICS + 1)}
    schema = ds.Schema("wide", domain="mobility", columns=columns)
    query = ds.query(schema).bound(rows=1, keys=1)
    for name in columns:
        query = query.sum(name)
    before = city.remaining
    with pytest.raises(ds.InvalidQueryError, match="statistics"):
        opened(city, query, clock)
    assert city.remaining == before
    assert len(fitting.fit(compile(replace(query, aggregates=query.aggregates[1:])), LOSS)) == fitting.MOST_STATISTICS


@pytest.mark.parametrize("keys", [(), ("d",)], ids=["one sum", "many"])
def test_sums_that_could_wrap_around_with_their_noise_are_refused(keys):
    schema = ds.Schema("w", domain="mobility", columns={"d": ds.Category("NESW"), "x": ds.Integer(0, 2**31)},
                       keys=[("d",)])  # fmt: skip
    plan = compile(ds.query(schema).keys(*keys).bound(rows=1, keys=1).sum("x"))
    with pytest.raises(ds.InvalidQueryError, match="could overflow"):
        fitting.fit(plan, ds.Loss(1, "pure"))
    (found,) = fitting.fit(plan, ds.pure(epsilon=1))
    assert found.kind == ("sum-vec" if keys else "sum")


def test_what_goes_to_the_helper_at_once_fits_in_one_request(pair, clock, monkeypatch):
    """A question of many sums, whose reports each bring the helper much: the batch is as small as that asks for."""
    silent(monkeypatch)
    city, servers = pair
    most = 16_000
    for module in (messages, leader):
        monkeypatch.setattr(module, "MOST_BODY", most)
    columns = {f"c{n}": ds.Integer(0, 20 + n) for n in range(4)}
    schema = ds.Schema("w", domain="mobility", columns={"d": ds.Category("NESW"), **columns}, keys=[("d",)])
    query = ds.query(schema).keys("d").bound(rows=1, keys=1).count()
    for name in columns:
        query = query.sum(name)
    task = read_task(opened(city, query, clock))
    vectors = [ONE, *[ONE * 7] * 4]
    reports = make_reports(task, [vectors] * 12)
    for at in range(0, 12, 4):
        servers.upload(reports[at : at + 4])
    clock.now += LONG
    release = city.release(query, loss=LOSS, purpose=PURPOSE)
    assert [v.tolist() for v in release.values] == [(12 * v).tolist() for v in vectors]
    sizes = [len(body) for _, path, body, _ in servers.said if path == "jobs"]
    assert len(sizes) > 1
    assert max(sizes) < most


def test_an_answer_without_an_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(client, "SHORT", (100_000, 60.0))

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            size = {"/endless": 10**12, "/most": 100_000, "/more": 100_001}[self.path]
            self.send_response(200)
            self.send_header("content-length", str(size))
            self.end_headers()
            try:
                for at in range(0, size, 1000):
                    self.wfile.write(bytes(min(1000, size - at)))
            except OSError:
                pass

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        party = ds.AggregatorId("x", f"http://127.0.0.1:{server.server_port}", bytes(32), bytes(range(32)))
        assert len(client.over_http(party, "most", b"?")) == 100_000
        for path in ("endless", "more"):
            with pytest.raises(PeerError, match="without an end"):
                client.over_http(party, path, b"?")
        server.shutdown()


# --- a leader or a helper at fault


def test_whatever_a_leader_sends_the_helper_refuses_it_by_an_error_of_ours_and_goes_on(pair, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = pair
    query = CELL.sum("km")
    task = read_task(opened(city, query, clock))
    good = make_reports(task, [[ONE, ONE * 5]] * 3)
    report = Report.from_bytes(good[0])
    sealed = seal(IDS[1].seal_key, bytes(200), info(task, 1, bytes(16), report.public[:1]))
    items = [
        b"", None, 7, [], [b""], [bytes(16), [], b"", []], [bytes(16), list(report.public[:1]), sealed, [b"", b""]],
        [report.nonce, list(report.public), report.sealed[1], [b"x", None]],
        [b"n" * 16, [b"", b"", b""], report.sealed[1], [b"x" * 10**5, b"y"]],
    ]  # fmt: skip
    for number in (0, 1, -1, True, None, "0", 2**63):
        for body in ([task.id, number], [task.id, number, b""], *([task.id, number, [item]] for item in items[:6])):
            with pytest.raises(DatasovError):
                ask(servers, "jobs", body)
    for path, body in (("keys", [task.id, b""]), ("keys", [task.id, None]), ("close", [task.id, 0, bytes(32)]),
                       ("close", [task.id, "0", None]), ("jobs", [bytes(32), 0, []])):  # fmt: skip
        with pytest.raises(DatasovError):
            ask(servers, path, body)
    servers.upload(good)
    clock.now += LONG
    release = city.release(query, loss=LOSS, purpose=PURPOSE)
    assert [v.tolist() for v in release.values] == [(3 * ONE).tolist(), (15 * ONE).tolist()]


def test_whatever_a_helper_answers_nothing_is_counted_that_it_did_not_vouch_for(pair, clock, monkeypatch):
    """It can stop the task, or keep a report out of both sums; it cannot put one in."""
    silent(monkeypatch)
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    servers.upload(make_reports(task, [[ONE]] * 2))
    clock.now += LONG
    real = servers.post

    def lying(answer):
        def post(to, path, body):
            if path != "jobs":
                return real(to, path, body)
            digest = messages.sha256(messages.cose.open1(body, IDS[0].verify_key, messages.REQUEST))
            return messages.cose.sign1(cbor.encode([digest, cbor.encode(answer)]), servers.helper.signing,
                                       messages.REPLY)  # fmt: skip

        return post

    seed = random(32)
    for answer in (None, 5, [], [None], b"", [b""], [b"\0" * 66], [b"\1" * 66], [[seed], [seed]], [b"\1" + seed] * 2):
        servers.leader.post = lying(answer)
        with suppress(DatasovError):
            servers.leader.work()
    servers.leader.post = real
    assert city.release(CELL, loss=LOSS, purpose=PURPOSE).values[0].tolist() in ([2, 0, 0, 0], [0, 0, 0, 0])


def test_no_batch_is_added_once_the_noised_share_stands(pair, clock):
    """Or reports of the leader's choice would come after the answer that was noised for all."""
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    servers.upload(make_reports(task, [[ONE]] * 3))
    clock.now += LONG
    shares = servers.leader.handle("collect", task.id)
    sent = [body for _, path, body, _ in servers.said if path == "jobs"][-1]
    content = cbor.decode(messages.cose.open1(sent, IDS[0].verify_key, messages.REQUEST))
    named, number, *rest = cbor.decode(content[2])
    with pytest.raises(InvalidDataError, match="was collected"):
        ask(servers, "jobs", [named, number + 1, *rest])
    assert ask(servers, "jobs", [named, number, *rest]), "the last one is answered again"
    assert servers.leader.handle("collect", task.id) == shares


def test_a_verify_key_is_fixed_before_the_first_report(pair, clock):
    """A leader that chose another one later could have the same reports verified twice."""
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    given = [servers.leader.verify_key(task), random(32)]
    sealed = [seal(IDS[1].seal_key, key, leader.KEY_INFO + task.id) for key in given]
    assert ask(servers, "keys", [task.id, sealed[0]]) == b""
    servers.restart()
    with pytest.raises(VerificationError, match="another verify key"):
        ask(servers, "keys", [task.id, sealed[1]])
    assert servers.leader.verify_key(read_task(opened(city, CELL.sum("km"), clock))) not in given


def test_an_answer_to_another_request_or_by_another_is_no_answer(pair, clock):
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    real, kept = servers.post, []

    def replaying(to, path, body):
        answer = real(to, path, body)
        kept.append(answer)
        return kept[0] if path == "jobs" else answer

    servers.upload(make_reports(task, [[ONE]]))
    clock.now += LONG
    servers.leader.introduced.clear()
    servers.leader.post = replaying
    with pytest.raises(VerificationError):
        servers.leader.work()
    _, _, body, answer = next(s for s in servers.said if s[1] == "keys")
    with pytest.raises(VerificationError, match="another request"):
        messages.request(servers.leader.signing, IDS[1], "keys", [task.id, b""]).send(lambda *_: answer)
    with pytest.raises(DatasovError):
        servers.leader.handle("keys", body)


def test_a_request_is_for_one_aggregator_and_one_path(pair, clock, monkeypatch):
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    clock.now += LONG
    inner = cbor.encode([task.id, 0, bytes(32)])
    for to, path in ((IDS[1], "keys"), (IDS[0], "close")):
        content = cbor.encode([to.verify_key, path, inner])
        signed = messages.cose.sign1(content, servers.leader.signing, messages.REQUEST)
        with pytest.raises(VerificationError, match="another aggregator, or for another path"):
            servers.helper.handle("close", signed)
    assert ask(servers, "close", [task.id, 0, bytes(32)])


def test_each_aggregator_has_its_role_in_a_task(pair, clock):
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    with pytest.raises(InvalidDataError, match="other role"):
        servers.helper.handle("reports", cbor.encode(make_reports(task, [[ONE]])))
    clock.now += LONG
    with pytest.raises(InvalidDataError, match="other role"):
        servers.helper.handle("collect", task.id)
    assert [s.store.length("uploads/" + task.id.hex()) for s in servers.both] == [0, 0]


def test_noise_leaves_once_though_all_collect_at_once_and_whoever_asks(pair, clock, monkeypatch):
    """Threads that collect over the leader, and one that closes at the helper, while batches are still open."""
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    servers.upload(make_reports(task, [[ONE]] * 20))
    clock.now += LONG
    found, closed, drawn, draw = [], [], [], leader.noised.__globals__["draw"]
    monkeypatch.setitem(leader.noised.__globals__, "draw", lambda *a: drawn.append(1) or draw(*a))

    def collect():
        try:
            found.append(servers.leader.handle("collect", task.id))
        except DatasovError as fault:
            found.append(fault)

    def close():
        with pytest.raises(VerificationError, match="different reports"):
            ask(servers, "close", [task.id, 20, b"?" * 32])
        closed.append(True)

    threads = [threading.Thread(target=f) for f in (*[collect] * 6, *[close] * 2, servers.leader.work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert closed == [True] * 2
    assert len(drawn) == 2
    assert len(set(found)) == 1
    assert isinstance(found[0], bytes)


@pytest.mark.parametrize("early", [0, 1], ids=["the leader's clock is ahead", "the helper's clock is ahead"])
def test_clocks_that_differ_delay_the_end_and_lose_nothing(tmp_path, early, monkeypatch):
    silent(monkeypatch)
    slow, fast = Clock(), Clock()
    fast.now += 600
    city, servers = two_server_city(tmp_path, slow)
    servers.both[early]._clock = fast
    task = read_task(opened(city, CELL, slow))
    servers.upload(make_reports(task, [[ONE]] * 3))
    slow.now += LONG - 300
    fast.now += LONG - 300
    with pytest.raises(InvalidDataError, match="still open"):
        servers.leader.handle("collect", task.id)
    late = make_reports(task, [[ONE]])
    if early == 0:
        with pytest.raises(InvalidDataError, match="no reports now"):
            servers.upload(late)
    else:
        servers.upload(late)
    slow.now += 300
    assert city.release(CELL, loss=LOSS, purpose=PURPOSE).values[0].tolist() == [3 + early, 0, 0, 0]
    city.close()


def test_a_stores_copy_from_before_a_loss_does_not_open_and_one_from_before_a_batch_gives_no_second_share(
    tmp_path, clock
):
    """An operator brings back an old copy of the helper's folder; its anchor lies outside of it."""
    made = {n: place.make(tmp_path / n, name=n, url=u, budget=ds.zcdp(rho=1), tokens=False)
            for n, u in zip(("a", "b"), URLS, strict=True)}  # fmt: skip
    trust = ds.two_server(city=made["a"], council=made["b"])
    signed, _ = made_task(CELL, clock, trust=trust)
    task, open_now = read_task(signed), {}

    def post(to, path, body):
        return open_now[to.name].handle(path, body)

    def begin(name):
        open_now[name] = place.open_(tmp_path / name, [task.city], clock=clock, post=post)

    def copied(what):
        open_now.pop("b").close()
        shutil.copytree(tmp_path / "b", tmp_path / what)
        begin("b")

    def back(what):
        """The newest is kept aside."""
        if "b" in open_now:
            open_now.pop("b").close()
        if what != "newest":
            shutil.rmtree(tmp_path / "newest", ignore_errors=True)
            shutil.copytree(tmp_path / "b", tmp_path / "newest")
        shutil.rmtree(tmp_path / "b")
        shutil.copytree(tmp_path / what, tmp_path / "b")

    begin("a")
    begin("b")
    copied("before the task")
    open_now["a"].handle("tasks", signed)
    back("before the task")
    with pytest.raises(StoreError, match="behind its anchor"):
        begin("b")
    back("newest")
    begin("b")
    with pytest.raises(StoreError, match="another process"):
        place.open_(tmp_path / "b", [task.city], clock=clock, post=post)
    copied("before the batch")
    open_now["a"].handle("reports", cbor.encode(make_reports(task, [[ONE]] * 3)))
    clock.now += LONG
    assert open_now["a"].aggregator.work() == 1
    back("before the batch")
    begin("b")
    with pytest.raises(VerificationError):
        open_now["a"].handle("collect", task.id)
    assert open_now["b"].aggregator.remaining.nano == ds.zcdp(rho=1).nano - LOSS.nano
    back("newest")
    begin("b")
    open_now["a"].handle("collect", task.id)
    back("newest")  # which was the newest before the share was noised
    with pytest.raises(StoreError, match="behind its anchor"):
        begin("b")
    open_now["a"].close()


def test_what_was_counted_is_told_by_its_nonces_and_other_nonces_are_refused(pair, clock):
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    reports = make_reports(task, [[ONE]] * 5)
    servers.upload(reports)
    clock.now += LONG
    shares = cbor.decode(servers.leader.handle("collect", task.id))
    mine, other = (
        city._who.take(lambda _, key, r=r, s=s: messages.open_share(s, task, r, key)) for r, s in enumerate(shares)
    )
    hashes = [int.from_bytes(messages.sha256(Report.from_bytes(r).nonce), "big") for r in reports]
    assert int.from_bytes(mine.checksum, "big") == reduce(xor, hashes)
    assert collecting._values(task, mine, other)[0].shape == (4,)
    for share in (b"\xff" * 16 + bytes(48), bytes(48) + FIELD128.modulus.to_bytes(16, "little"), bytes(63), bytes(80)):
        with pytest.raises(VerificationError, match="another form"):
            task.fits[0].words(share)
    for changed in (
        replace(other, checksum=bytes(32)), replace(other, reports=4), replace(other, shares=()),
        replace(other, shares=other.shares * 2), replace(other, shares=(other.shares[0] + bytes(16),)),
        replace(other, shares=(b"\xff" * len(other.shares[0]),)),
        replace(other, shares=(bytes(len(other.shares[0]) - 1) + b"\x7f",)),
    ):  # fmt: skip
        with pytest.raises((PeerError, VerificationError), match="at fault"):
            collecting._values(task, mine, changed)


def test_two_tasks_that_differ_in_a_bit_of_the_question_share_nothing(pair, clock, monkeypatch):
    """A city that asks for all and for all but one: no report, share or answer of one is good for the other."""
    city, servers = pair
    asked = [read_task(opened(city, q, clock)) for q in (CELL, CELL.where(ds.col("km") != 7))]
    reports = [make_reports(t, [[ONE]] * 2) for t in asked]
    assert asked[0].context(0) != asked[1].context(0)
    moved = [replace(Report.from_bytes(r), task=asked[1].id).to_bytes() for r in reports[0]]
    servers.upload(reports[0])
    servers.upload([*moved, *reports[1]])
    clock.now += LONG
    shares = [cbor.decode(servers.leader.handle("collect", t.id)) for t in asked]
    for role in (0, 1):
        with pytest.raises(VerificationError, match="another task"):
            city._who.take(lambda _, key, r=role: messages.open_share(shares[0][r], asked[1], r, key))
        with pytest.raises(VerificationError):
            city._who.take(lambda _, key, r=role: messages.open_share(shares[0][r], asked[0], 1 - r, key))
        found = city._who.take(lambda _, key, r=role: messages.open_share(shares[1][r], asked[1], r, key))
        assert found.reports == 2
