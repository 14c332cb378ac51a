"""Claim: under two servers one person is one report, and neither server learns who takes part. docs/spec/enrolment.md

Who tries: a resident with several vaults, keys and retries; whoever has tokens of others; an issuer that marks people;
a leader that lets everything pass; a city that names other issuers; both servers, looking at who fetched a token.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator import leader
from datasov.aggregator.state import identity, issuer_key, keys
from datasov.authority import credential
from datasov.authority.credential import Wanted
from datasov.errors import ConsentError, PeerError, ProofError, VerificationError
from datasov.mpc.report import Columns, Report, make_reports, open_shares
from datasov.mpc.task import read_task
from datasov.vault.opening import New
from datasov.wire import cbor
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.servers import (
    ENROLLED,
    ISSUERS,
    LONG,
    LOSS,
    SECRETS,
    TRUST,
    Crash,
    FailingStore,
    Servers,
    grant,
    made_task,
    opened,
    resident,
    silent,
    two_server_city,
)
from tests.tokens import person, vault

CELL = ds.query(TRIPS).keys("district").bound(rows=1, keys=1).count()
FEW = CELL.where(ds.col("km") > 3)
NORTH = {TRIPS: [{"district": "N", "km": 9}]}
ONE = [np.array([1, 0, 0, 0])]


@pytest.fixture
def pair(tmp_path, clock, monkeypatch):
    silent(monkeypatch)
    city, servers = two_server_city(tmp_path, clock, ENROLLED)
    yield city, servers
    city.close()


def enrolled(folder, clock, city, servers, *names, consents=True):
    """Residents of these names, each with one ride in the north, on both rolls."""
    made = []
    for name in names:
        made.append(resident(folder, clock, name, NORTH))
        servers.enrol({name: made[-1].enrolment_key(city.id)})
        if consents:
            grant(made[-1], city)
    return made


def batches(servers, monkeypatch, reports):
    """Upload each report, and aggregate it in a batch of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(leader, "BATCH", 1)
        for report in reports:
            servers.upload([report])
            servers.leader.work()


def total(city, clock, query=CELL):
    clock.now += LONG
    return city.release(query, loss=LOSS, purpose=PURPOSE).values[0].tolist()


def token(servers, task, name, party, derive=None):
    """The token of an aggregator for somebody who is on its roll."""
    derive = derive or vault(name)
    wanted = Wanted(party.issuer_key, task.id, task.epoch)
    key = credential.enrolment_key(derive, ds.CityId.parse(task.city))
    asked = credential.request(derive, key, wanted)
    (answer,) = cbor.decode(servers.post(party, "tokens", cbor.encode([task.id, [asked]])))
    return credential.accept(derive, wanted, answer).data


# --- one person


def test_everybody_on_the_roll_counts_once_however_often_they_send(pair, clock, tmp_path, monkeypatch):
    city, servers = pair
    people = enrolled(tmp_path, clock, city, servers, "a", "b", "c")
    signed = opened(city, CELL, clock)
    reports = [who.answer(signed, post=servers.post) for who in people]
    assert [who.answer(signed, post=None) for who in people] == reports, "kept: nobody is asked again"
    batches(servers, monkeypatch, [reports[0], *reports, *reports])
    servers.restart()
    batches(servers, monkeypatch, reports)
    assert total(city, clock) == [3, 0, 0, 0]
    for who in people:
        who.close()


def test_a_vault_that_forgot_its_report_makes_another_which_is_known_by_its_token(pair, clock, tmp_path, monkeypatch):
    """A copy from before, or a changed device: another nonce, the same tokens; in a batch, two, after restarts."""
    city, servers = pair
    [who] = enrolled(tmp_path, clock, city, servers, "a")
    signed = opened(city, CELL, clock)
    reports = []
    for _ in range(5):
        reports.append(who.answer(signed, post=servers.post))
        names = [n for n in who._vault.states() if n.startswith(("answer/", "spent/"))]
        who._vault.set_state(dict.fromkeys(names))
    assert len(set(reports)) == 5
    servers.upload(reports[:2])
    batches(servers, monkeypatch, reports[2:4])
    servers.restart()
    batches(servers, monkeypatch, reports[4:])
    assert total(city, clock) == [1, 0, 0, 0]
    who.close()


def test_one_persons_tokens_under_many_nonces_count_once_within_a_batch_and_across(pair, clock, monkeypatch):
    city, servers = pair
    servers.enrol({n: credential.enrolment_key(vault(n), city.id).public for n in "ab"})
    task = read_task(opened(city, CELL, clock))
    tokens = [tuple(token(servers, task, n, party) for party in ISSUERS) for n in "ab"]
    reports = make_reports(task, [ONE] * 8, [tokens[n // 6] for n in range(8)])
    assert len({Report.from_bytes(r).nonce for r in reports}) == 8
    monkeypatch.setattr(leader, "BATCH", 2)
    servers.upload(reports[:2])  # one batch
    servers.upload(reports[2:4])  # the next, begun before that one is recorded
    assert servers.leader.work() == 2
    servers.upload(reports[4:])
    assert total(city, clock) == [2, 0, 0, 0]


def test_two_devices_of_one_person_answer_once_before_and_after_they_merge(pair, clock, tmp_path):
    city, servers = pair
    [phone] = enrolled(tmp_path, clock, city, servers, "a")
    key = hashlib.sha256(b"tablet").digest()
    new: New = {"device_key": key}
    phone.enrol(tmp_path / "tablet.vault", **new)
    tablet = ds.Resident.open(tmp_path / "tablet.vault", clock=clock, device_key=key)
    assert tablet.enrolment_key(city.id) == phone.enrolment_key(city.id)
    tablet.put_all({TRIPS: [{"district": "S", "km": 9}]}.items())
    grant(tablet, city)
    first, second = opened(city, CELL, clock), opened(city, FEW, clock)
    servers.upload([who.answer(first, post=servers.post) for who in (phone, tablet)])
    asked = [body for _, path, body, _ in servers.said if path == "tokens"]
    assert asked[:2] == asked[2:], "the same requests, byte for byte"
    tablet.close()
    phone.merge(tmp_path / "tablet.vault", device_key=key)
    tablet = ds.Resident.open(tmp_path / "tablet.vault", clock=clock, device_key=key)
    servers.upload([who.answer(second, post=servers.post) for who in (phone, tablet)])
    for who in (phone, tablet):
        who.close()
    assert sum(total(city, clock)) == 1
    assert sum(city.release(FEW, loss=LOSS, purpose=PURPOSE).values[0]) == 1


def test_a_person_with_a_new_vault_and_key_gets_no_second_token(pair, clock, tmp_path):
    city, servers = pair
    [old] = enrolled(tmp_path, clock, city, servers, "a")
    first, second = opened(city, CELL, clock), opened(city, FEW, clock)
    servers.upload([old.answer(first, post=servers.post)])
    new = resident(tmp_path, clock, "new", NORTH)
    grant(new, city)
    with pytest.raises(ConsentError, match="not on the roll"):
        new.answer(first, post=servers.post)
    servers.enrol({"a": new.enrolment_key(city.id)})
    with pytest.raises(ConsentError, match="another request"):
        new.answer(first, post=servers.post)
    with pytest.raises(ConsentError, match="not on the roll"):
        old.answer(second, post=servers.post)
    servers.upload([new.answer(second, post=servers.post)])
    for who in (old, new):
        who.close()
    assert total(city, clock) == [1, 0, 0, 0]
    assert city.release(FEW, loss=LOSS, purpose=PURPOSE).values[0].tolist() == [1, 0, 0, 0]


def test_a_stranger_is_told_so_and_nothing_is_charged_or_kept(pair, clock, tmp_path):
    city, servers = pair
    who = resident(tmp_path, clock, "stranger", NORTH)
    grant(who, city)
    signed = opened(city, CELL, clock)
    before = who._vault.states()
    for refuse in (False, True):
        with pytest.raises(ConsentError, match="city: this key is not on the roll"):
            who.answer(signed, refuse=refuse, post=servers.post)
    assert who._vault.states() == before
    who.close()


# --- tokens that are worth nothing


def test_tokens_are_taken_once_by_their_own_aggregator_for_their_own_task(pair, clock, monkeypatch):
    """Replayed, mixed, borrowed, exchanged, made up and left out; across batches and a restart."""
    city, servers = pair
    names = [f"n{i}" for i in range(6)]
    servers.enrol({n: credential.enrolment_key(vault(n), city.id).public for n in names})
    task, other = (read_task(opened(city, query, clock)) for query in (CELL, FEW))
    ours, theirs = ([token(servers, task, n, party) for n in names] for party in ISSUERS)
    foreign = [token(servers, other, "n3", party) for party in ISSUERS]
    shown = [
        (ours[0], theirs[0]), (ours[1], theirs[1]), (ours[0], theirs[0]),  # the third shows the first's again
        (ours[0], theirs[2]), (ours[2], theirs[1]),  # a fresh token beside a shown one
        (theirs[3], ours[3]), (bytes(64), theirs[3]), (foreign[0], theirs[3]), (foreign[0], foreign[1]),
        (ours[4][:32] + ours[5][32:], theirs[4]),
    ]  # fmt: skip
    batches(servers, monkeypatch, make_reports(task, [ONE] * len(shown), shown))
    servers.restart()
    again = [(ours[0], theirs[4]), (ours[1], theirs[1]), (ours[5], theirs[5])]
    servers.upload(make_reports(task, [ONE] * 3, again))
    assert total(city, clock) == [3, 0, 0, 0]  # the first, the second and the last


@pytest.mark.parametrize("tokens", [(b"", b""), (b"", bytes(64)), (bytes(63), bytes(64))])
def test_a_report_without_a_token_is_not_taken_in(pair, clock, tokens):
    city, servers = pair
    task = read_task(opened(city, CELL, clock))
    with pytest.raises(VerificationError, match="another size"):
        servers.upload(make_reports(task, [ONE], [tokens]))
    assert total(city, clock) == [0, 0, 0, 0]


def test_a_token_for_a_task_that_asks_for_none_is_refused(tmp_path, clock, monkeypatch):
    """At the door, and where an aggregator opens its share."""
    silent(monkeypatch)
    city, servers = two_server_city(tmp_path, clock)
    task = read_task(opened(city, CELL, clock))
    for tokens in ((bytes(64), bytes(64)), (bytes(64), b""), (b"", bytes(64))):
        (report,) = make_reports(task, [ONE], [tokens])
        with pytest.raises(VerificationError, match="another size"):
            servers.upload([report])
        found = Report.from_bytes(report)
        columns = Columns([found.nonce], [[found.public[0]]], ([found.sealed[0]], [found.sealed[1]]))
        for role, token_ in enumerate(tokens):
            (opened_,) = open_shares(task, role, keys(SECRETS[role])[1], columns)
            assert (opened_ is None) == bool(token_)
    servers.upload(make_reports(task, [ONE]))
    with pytest.raises(ds.InvalidDataError, match="asks for no enrolment"):
        servers.leader.handle("tokens", cbor.encode([task.id, [b""]]))
    assert total(city, clock) == [1, 0, 0, 0]
    city.close()


@pytest.mark.parametrize("corrupt", [0, 1], ids=["leader", "helper"])
def test_one_aggregator_that_takes_any_token_adds_no_second_report_of_a_person(pair, clock, monkeypatch, corrupt):
    """It counts whatever it likes; the honest one leaves out the report, and so both do."""
    city, servers = pair
    servers.enrol({n: credential.enrolment_key(vault(n), city.id).public for n in "ab"})
    task = read_task(opened(city, CELL, clock))
    tokens = [[token(servers, task, n, party) for n in "ab"] for party in ISSUERS]
    fake = iter(range(1000))
    monkeypatch.setattr(
        servers.both[corrupt], "check", lambda found, _: [next(fake).to_bytes(32, "big") for _ in found]
    )
    honest = tokens[1 - corrupt]
    shown = [honest[0], honest[0], honest[1], bytes(64), tokens[corrupt][0]]
    both = [(bytes(64), t) if corrupt == 0 else (t, bytes(64)) for t in shown]
    batches(servers, monkeypatch, make_reports(task, [ONE] * 5, both))
    assert total(city, clock) == [2, 0, 0, 0]


def test_an_aggregator_that_serves_two_cities_issues_to_the_right_ones_residents(tmp_path, clock):
    """A person on both rolls has two keys, and still one token for a task."""
    signed, _ = made_task(CELL, clock, trust=ENROLLED)
    task = read_task(signed)
    servers = Servers(clock, task.city, trust=ENROLLED)
    servers.leader.handle("tasks", signed)
    other = ds.CityId("other", bytes(32), bytes(range(32)))
    key = credential.enrolment_key(vault("a"), other)
    servers.leader.issuer(str(other))._roll.enrol([(person("a"), key.public)])
    wanted = Wanted(ISSUERS[0].issuer_key, task.id, task.epoch)
    asked = credential.request(vault("a"), key, wanted)
    (told,) = cbor.decode(servers.leader.handle("tokens", cbor.encode([task.id, [asked]])))
    assert "not on the roll" in told


def test_no_token_is_issued_once_a_task_is_over(pair, clock):
    city, servers = pair
    servers.enrol({"a": credential.enrolment_key(vault("a"), city.id).public})
    task = read_task(opened(city, CELL, clock))
    clock.now += LONG
    for party in ISSUERS:
        with pytest.raises(ds.InvalidDataError, match="no reports now"):
            token(servers, task, "a", party)


# --- an issuer that looks


@pytest.mark.parametrize("which", [0, 1], ids=["leader", "helper"])
def test_an_issuer_with_a_key_for_one_person_is_found_out_before_anything_is_kept(pair, clock, tmp_path, which):
    city, servers = pair
    [who] = enrolled(tmp_path, clock, city, servers, "a")
    signed = opened(city, CELL, clock)
    before = who._vault.states()
    marking = servers.both[which]
    honest = marking.issuer(str(city.id))
    mark = issuer_key(hashlib.sha256(b"for a alone").digest())

    def marked(task, epoch, requests):
        """Everything as it should be, under another key."""
        wanted = Wanted(ISSUERS[which].issuer_key, task, epoch)
        blinded = [credential.read_request(r, wanted)[1] for r in requests]
        return credential.answers(blinded, mark.under(wanted.info).evaluate(blinded))

    issue, honest.issue = honest.issue, marked
    for refuse in (True, False):
        with pytest.raises(ProofError, match="published"):
            who.answer(signed, refuse=refuse, post=servers.post)
    assert who._vault.states() == before
    honest.issue = issue
    servers.upload([who.answer(signed, post=servers.post)])
    assert total(city, clock) == [1, 0, 0, 0]
    who.close()


def test_a_city_that_names_another_issuer_gets_a_null_report_and_no_aggregator(tmp_path, clock):
    """The issuer's key is in what the consent commits to, and an aggregator knows its own."""
    signed, _ = made_task(CELL, clock, trust=ENROLLED)
    task = read_task(signed)
    mark = issuer_key(bytes(32)).public
    changed = ds.two_server(city=replace(ISSUERS[0], issuer_key=mark), council=ISSUERS[1])
    none, _ = made_task(CELL, clock)
    other, _ = made_task(CELL, clock, trust=changed)
    servers = Servers(clock, task.city, trust=ENROLLED)
    for wrong in (none, other):
        with pytest.raises(ds.ConsentError, match="by another name, address or key"):
            servers.leader.handle("tasks", wrong)
    assert len({t.commitment for t in (ENROLLED, changed, TRUST)}) == 3
    assert len({read_task(t).id for t in (signed, none, other)}) == 3


def test_neither_server_can_tell_who_refuses_from_fetching_or_sending(tmp_path, clock, monkeypatch):
    """Two worlds of the same people: requests byte for byte, and all else by its numbers, names and lengths."""
    seen, asked = [], []
    for world in ("refuse", "answer"):
        folder, now = tmp_path / world, Clock()
        folder.mkdir()
        signed, _ = made_task(CELL, now, trust=ENROLLED)
        task = read_task(signed)
        servers = Servers(now, task.city, trust=ENROLLED)
        servers.leader.handle("tasks", signed)
        reports = []
        for n in range(5):
            who = resident(folder, now, n, {TRIPS: [{"district": "N", "km": n}] * (1 + n)})
            servers.enrol({str(n): who.enrolment_key(ds.CityId.parse(task.city))})
            if world == "answer" or n % 2:
                who.grant(
                    ds.CityId.parse(task.city), TRIPS, purpose=PURPOSE, until="2028-12-31", trust=ENROLLED,
                    loss=ds.Loss(1) if world == "refuse" else ds.zcdp(rho=1),
                )  # fmt: skip
            reports.append(who.answer(signed, refuse=world == "refuse" and n == 4, post=servers.post))
            assert (who.spent(LOSS, signed).nano > 0) is (world == "answer")
            who.close()
        servers.upload(reports)
        now.now += LONG
        servers.leader.handle("collect", task.id)

        def named(name, task=task):
            info = [Wanted(p.issuer_key, task.id, task.epoch).info.hex() for p in ISSUERS]
            for text, what in ((task.id.hex(), "TASK"), (info[0], "INFO0"), (info[1], "INFO1")):
                name = name.replace(text, what)
            return name

        kept = [
            (named(name), [len(b) for b in bodies])
            for store in servers.stores for name, bodies in sorted(store.streams.items(), key=lambda i: named(i[0]))
        ]  # fmt: skip
        kept += [sorted((named(n), len(b)) for n, b in store.blobs.items()) for store in servers.stores]
        seen.append((kept, [(url, path, len(body), len(answer)) for url, path, body, answer in servers.said]))
        asked.append(len([path for _, path, *_ in servers.said if path == "tokens"]))
    assert seen[0] == seen[1]
    assert asked == [10, 10]


def test_a_refusal_fetches_byte_for_byte_what_an_answer_fetches(pair, clock, tmp_path):
    """The same vault, before it knows a consent, while it refuses, and when it answers."""
    city, servers = pair
    [who] = enrolled(tmp_path, clock, city, servers, "a", consents=False)
    signed = opened(city, CELL, clock)
    asked = []
    for refuse, consents in ((False, False), (True, True), (False, True)):
        if consents:
            grant(who, city)
        servers.said.clear()
        who.answer(signed, refuse=refuse, post=servers.post)
        asked.append([(url, path, body) for url, path, body, _ in servers.said])
        who._vault.set_state({n: None for n in who._vault.states() if n.startswith("answer/")})
    assert asked[0] == asked[1] == asked[2]
    assert [(url, path) for url, path, _ in asked[0]] == [(p.url, "tokens") for p in ISSUERS]
    who.close()


# --- what breaks on the way


def test_where_one_aggregator_is_down_nothing_is_charged_and_asking_again_goes_on(pair, clock, tmp_path):
    city, servers = pair
    [who] = enrolled(tmp_path, clock, city, servers, "a")
    signed = opened(city, CELL, clock)
    servers.down = {ISSUERS[1].url}
    with pytest.raises(PeerError):
        who.answer(signed, post=servers.post)
    assert who.spent(LOSS, signed).nano == 0
    servers.down = set()
    servers.upload([who.answer(signed, post=servers.post)])
    assert total(city, clock) == [1, 0, 0, 0]
    who.close()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("which", [0, 1], ids=["leader", "helper"])
def test_a_crash_while_a_token_is_issued_costs_nobody_theirs_and_gives_nobody_two(clock, tmp_path, which, late):
    signed, _ = made_task(CELL, clock, trust=ENROLLED)
    task = read_task(signed)
    servers = Servers(clock, task.city, trust=ENROLLED)
    servers.leader.handle("tasks", signed)
    city = ds.CityId.parse(task.city)
    servers.enrol({"a": credential.enrolment_key(vault("a"), city).public})
    issuing = servers.both[which].issuer(task.city)
    issuing._store = FailingStore(servers.stores[which], 1, late)
    with pytest.raises(Crash):
        token(servers, task, "a", ISSUERS[which])
    servers.restart()
    found = token(servers, task, "a", ISSUERS[which])
    assert servers.both[which].check([found], task)[0] is not None
    stranger = credential.request(
        vault("a second vault"), credential.enrolment_key(vault("a"), city),
        Wanted(ISSUERS[which].issuer_key, task.id, task.epoch),
    )  # fmt: skip
    (told,) = cbor.decode(servers.both[which].handle("tokens", cbor.encode([task.id, [stranger]])))
    assert "another request" in told


def test_an_id_with_an_issuers_key_is_read_as_it_was_written():
    for party in (*ISSUERS, *TRUST.aggregators):
        assert ds.AggregatorId.parse(str(party)) == party
        assert ds.AggregatorId.from_document(party.document()) == party
        assert ("issuer_key" in party.document()) is bool(party.issuer_key)
    for wrong in (b"\2" * 32, b"\4" * 33, b"\2" * 34):
        with pytest.raises(ds.InvalidQueryError, match="issuer key"):
            replace(ISSUERS[0], issuer_key=wrong)
    with pytest.raises(ds.InvalidQueryError, match="make both alike"):
        ds.two_server(city=ISSUERS[0], council=TRUST.aggregators[1])
    with pytest.raises(ds.InvalidQueryError, match="one issuer_key"):
        ds.two_server(city=ISSUERS[0], council=replace(ISSUERS[1], issuer_key=ISSUERS[0].issuer_key))
    made = [identity(p.name, p.url, s, tokens=True) for p, s in zip(ISSUERS, SECRETS, strict=True)]
    assert tuple(made) == ISSUERS
