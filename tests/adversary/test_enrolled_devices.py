"""Claim: under local trust with a roll one person is one report, and the city cannot tell whose. docs/spec/enrolment.md

Who tries: a resident with several vaults, keys and retries; whoever reads reports on the way; whoever has tokens of
others, or for something else; a city that marks people, or looks at who fetched what; a machine that stops.
"""

from __future__ import annotations

import hashlib

import pytest

import datasov as ds
from datasov.aggregator.state import issuer_key
from datasov.authority import credential, held
from datasov.authority.credential import Wanted
from datasov.city import responding
from datasov.errors import (
    ConsentError,
    DecryptionError,
    DeniedError,
    InvalidDataError,
    PeerError,
    ProofError,
    VerificationError,
)
from datasov.mpc.noised import NoisedReport
from tests.adversary.test_races import in_threads
from tests.helpers import PURPOSE, TRIPS, Clock
from tests.locals import ALL, COUNT, MEAN, PURE, Way, certain, city_of, forget, person, read_task
from tests.servers import ENROLLED, ISSUERS, LONG, Crash, FailingStore, opened, resident
from tests.tokens import vault

NAMES = ("ann", "bo", "cy")


@pytest.fixture
def city(tmp_path, clock):
    made, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    with made:
        yield made


def enrolled(folder, clock, city, *names):
    """Residents with a row in the north, who consent, on the city's roll."""
    people = [person(folder, clock, name, city, "N", city.trust.part("local")) for name in names]
    city.enrol([(name, who.enrolment_key(city.id)) for name, who in zip(names, people, strict=True)])
    return people


def token(city, task, name, derive=None, epoch=None, key_of=None):
    """A token for somebody on the roll, straight from the issuer; for another epoch where one is given."""
    derive = derive or vault(name)
    wanted = Wanted(task.issuer_key, task.id, task.epoch if epoch is None else epoch)
    asked = credential.request(derive, credential.enrolment_key(key_of or derive, city.id), wanted)
    (answer,) = city._issuer[2].issue(task.id, wanted.epoch, [asked])
    return answer if isinstance(answer, Exception) else credential.accept(derive, wanted, answer).data


def strangers(city, *names):
    city.enrol([(name, credential.enrolment_key(vault(name), city.id).public) for name in names])


def report(city, task, token, answer=b"\x01", tag=bytes(16)):
    return NoisedReport(task.id, tag, answer).with_token(city.id, token).to_bytes()


def counted(city, clock, query=COUNT):
    clock.now += LONG
    return city.release(query, loss=PURE, purpose=PURPOSE).responses.tally.reports


def close(*people):
    for who in people:
        who.close()


# --- one person


def test_everybody_on_the_roll_counts_once_however_often_they_send(tmp_path, clock, city):
    people, way = enrolled(tmp_path, clock, city, *NAMES), Way(city)
    task = opened(city, COUNT, clock, PURE)
    reports = [who.answer(task, post=way) for who in people]
    assert [who.answer(task, post=None) for who in people] == reports, "kept: nobody is asked again"
    assert city.take_many([*reports, *reports]) == [None] * 6
    for _ in range(3):
        city.take(reports[0])
    assert counted(city, clock) == 3
    close(*people)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one batch"])
def test_a_sybils_second_report_is_refused_whatever_is_new_in_it(tmp_path, clock, city, together):
    """A vault that forgot what it said: another noised answer, or the same under another tag; the token is the same."""
    (who,) = enrolled(tmp_path, clock, city, "ann")
    signed = opened(city, COUNT, clock, PURE)
    task, reports = read_task(signed), []
    for _ in range(16):
        reports.append(who.answer(signed, post=Way(city)))
        forget(who, held.ANSWER, held.NOISED, held.SPENT)
    known = [NoisedReport.from_bytes(r) for r in reports]
    first, other = known[0], next(r for r in known if r.answer != known[0].answer)
    moved = report(city, task, token(city, task, "ann", who._vault.derive), other.answer, b"another vault's.")
    sent = [first.to_bytes(), other.to_bytes(), moved]
    found = city.take_many(sent) if together else [city.take_many([r])[0] for r in sent]
    assert [type(f) for f in found] == [type(None), DeniedError, DeniedError]
    assert city.take_many([reports[0]]) == [None], "and the first again changes nothing"
    assert counted(city, clock) == 1
    close(who)


def test_a_person_with_a_hundred_vaults_sends_one_report(tmp_path, clock, city):
    (first,) = enrolled(tmp_path, clock, city, "ann")
    signed, way = opened(city, COUNT, clock, PURE), Way(city)
    city.take(first.answer(signed, post=way))
    for n in range(5):
        other = resident(tmp_path, clock, n, {TRIPS: []})
        with pytest.raises(ConsentError, match="not on the roll"):
            other.answer(signed, post=way)
        assert city.enrol([("ann", other.enrolment_key(city.id))]) == 1
        with pytest.raises(ConsentError, match="another request"):
            other.answer(signed, post=way)
        city.strike(["ann"])
        with pytest.raises(ConsentError, match="not on the roll"):
            other.answer(signed, post=way)
        other.close()
    assert counted(city, clock) == 1
    close(first)


def test_two_spellings_of_a_name_are_one_person_and_a_key_is_one_persons(city):
    keys = [credential.enrolment_key(vault(n), city.id).public for n in "ab"]
    assert city.enrol([("Ａｎｎ ", keys[0])]) == 1
    assert city.enrol([("Ann", keys[1])]) == 1
    with pytest.raises(InvalidDataError, match="another person's"):
        city.enrol([("Bo", keys[1])])
    with pytest.raises(InvalidDataError, match="printable"):
        city.enrol([("", keys[0])])


# --- tokens that are none


def test_no_token_is_worth_anything_for_another_task_epoch_or_city(tmp_path, clock, city):
    strangers(city, "a", "b")
    task, other = (read_task(opened(city, q, clock, PURE)) for q in (COUNT, MEAN))
    here, there = token(city, task, "a"), token(city, other, "a")
    later = token(city, task, "b", epoch=task.epoch + 1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with city_of(foreign, clock, ds.local(), enrol=True)[0] as elsewhere:
        strangers(elsewhere, "b")
        elsewheres = token(elsewhere, read_task(opened(elsewhere, COUNT, clock, PURE)), "b")
    forged = [bytes(64), here[:32] + there[32:], here[:-1] + bytes([here[-1] ^ 1]), bytes(32) + here[32:]]
    for wrong in (there, later, elsewheres, *forged):
        with pytest.raises(VerificationError, match="without a token"):
            city.take(report(city, task, wrong))
    city.take(report(city, task, here))
    assert counted(city, clock) == 1


def test_a_report_without_a_token_or_with_one_where_none_is_asked_is_refused(tmp_path, clock, city):
    strangers(city, "a")
    task = read_task(opened(city, COUNT, clock, PURE))
    with pytest.raises(VerificationError, match="or without"):
        city.take(NoisedReport(task.id, bytes(16), b"\x01").to_bytes())
    for sealed in (b"\x01" * 111, b"\x01" * 113):
        with pytest.raises(VerificationError):
            city.take(NoisedReport(task.id, bytes(16), b"\x01", sealed).to_bytes())
    with pytest.raises(VerificationError):
        city.take(NoisedReport(task.id, bytes(16), b"\x01", b"\x01" * 112).to_bytes())
    free = tmp_path / "free"
    free.mkdir()
    with city_of(free, clock, ds.local())[0] as without:
        asks_none = read_task(opened(without, COUNT, clock, PURE))
        with pytest.raises(VerificationError, match="asks for none"):
            without.take(report(without, asks_none, bytes(64)))
        with pytest.raises(InvalidDataError, match="asks for no enrolment"):
            without.issue(asks_none.id, [])
        with pytest.raises(ds.InvalidQueryError, match="enrol=True"):
            without.enrol([])


def test_who_reads_a_report_on_the_way_cannot_move_its_token_to_another(clock, city):
    """To another answer, another tag, another task; nor read it, nor send it sealed anew."""
    strangers(city, "a")
    task, other = (read_task(opened(city, q, clock, PURE)) for q in (COUNT, MEAN))
    plain = token(city, task, "a")
    sent = NoisedReport.from_bytes(report(city, task, plain))
    assert plain not in sent.to_bytes()
    assert plain[:32] not in sent.to_bytes()
    for stolen in (
        NoisedReport(task.id, sent.tag, b"\x02", sent.sealed), NoisedReport(task.id, b"t" * 16, b"\x01", sent.sealed),
        NoisedReport(other.id, sent.tag, b"\x01", sent.sealed),
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            city.take(stolen.to_bytes())
        with pytest.raises(DecryptionError):
            stolen.token(city._who.opening)
    assert sent.token(city._who.opening) == plain
    city.take(sent.to_bytes())
    assert counted(city, clock) == 1


def test_nothing_is_issued_before_a_task_or_after_its_end(clock, city):
    strangers(city, "a")
    task = read_task(opened(city, COUNT, clock, PURE))
    with pytest.raises(VerificationError, match="no task"):
        city.issue(bytes(32), [])
    clock.now += LONG
    with pytest.raises(InvalidDataError, match="no reports now"):
        city.issue(task.id, [])


# --- a city that looks


def test_the_city_cannot_tell_who_refuses_or_answers_from_fetching_or_sending(tmp_path, monkeypatch):
    """Two worlds of the same people: all that goes to the city, and all that it keeps, by names and lengths."""
    worlds = []
    for world in ("refuse", "answer"):
        folder, now = tmp_path / world, Clock()
        folder.mkdir()
        with city_of(folder, now, ds.local(), enrol=True, operator_key=bytes(32))[0] as city:
            people, way = enrolled(folder, now, city, *NAMES), Way(city)
            signed = opened(city, COUNT, now, PURE)
            reports = [who.answer(signed, refuse=world == "refuse", post=way) for who in people]
            assert {who.spent(PURE, signed).nano > 0 for who in people} == {world == "answer"}
            city.take_many(reports)
            streams = {s.split("/")[0]: [len(b) for b in city._store.read(s)] for s in city._store.streams("")}
            blobs = sorted(len(city._store.blob(n)) for n in city._store.blobs())
            worlds.append(
                ([(path, len(body), len(answer)) for path, body, answer in way.said],
                 [len(r) for r in reports], streams, blobs)
            )  # fmt: skip
            close(*people)
    assert [path for path, *_ in worlds[0][0]] == ["tokens"] * 3
    assert worlds[0] == worlds[1]


@pytest.mark.parametrize("trust", ["central", "two_server", "local", "none"])
def test_requests_are_the_same_bytes_whichever_trust_the_owner_chose(tmp_path, clock, trust):
    """In a city of three models: who fetched what from whom tells nothing of consents."""
    parts = (ds.central(), ENROLLED, ds.local())
    city, servers = city_of(tmp_path, clock, parts, enrol=True)
    servers.trust = ENROLLED
    servers.restart()
    clock.now += 7200
    who = (
        resident(tmp_path, clock, "w", {TRIPS: [{"district": "N", "km": 7}]}) if trust == "none"
        else person(tmp_path, clock, "w", city, "N", city.trust.part(trust))
    )  # fmt: skip
    key = who.enrolment_key(city.id)
    city.enrol([("w", key)])
    servers.enrol({"w": key})
    signed = opened(city, COUNT, clock, PURE)
    task, way = read_task(signed), Way(city, servers)
    servers.said.clear()
    told = who.answer(signed, post=way)
    assert (told == b"") == (trust == "central")
    wanted = [Wanted(k, task.id, task.epoch) for k in (ISSUERS[0].issuer_key, ISSUERS[1].issuer_key, task.issuer_key)]
    derive = who._vault.derive
    asked = [credential.request(derive, credential.enrolment_key(derive, city.id), w) for w in wanted]
    bodies = [body for _, path, body, _ in servers.said if path == "tokens"] + [body for _, body, _ in way.said]
    assert len(bodies) == 3
    assert all(a in b for a, b in zip(asked, bodies, strict=True))
    city.strike(["w"])
    forget(who, held.ANSWER)
    with pytest.raises(ConsentError, match="not on the roll"):
        who.answer(signed, post=way)
    close(who)
    city.close()


def test_a_city_with_a_key_for_one_person_is_found_out_before_anything_is_kept(tmp_path, clock, city):
    (who,) = enrolled(tmp_path, clock, city, "ann")
    signed = opened(city, COUNT, clock, PURE)
    before, issuer = who._vault.states(), city._issuer[2]
    mark, key = issuer_key(hashlib.sha256(b"for ann alone").digest()), issuer._key
    for refuse in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(issuer, "_evaluator", lambda wanted: mark.under(wanted.info))
            with pytest.raises(ProofError, match="published"):
                who.answer(signed, refuse=refuse, post=Way(city))
    assert who._vault.states() == before
    assert key.public == city.trust.issuer_key
    city.take(who.answer(signed, post=Way(city)))
    close(who)


def test_a_consent_names_the_issuer_and_counts_under_no_other(tmp_path, clock, city, monkeypatch):
    """Without tokens, or under another key, the trust is another one: the device gives a null report."""
    assert city.trust == ds.local(issuer_key=city.trust.issuer_key) != ds.local()
    assert ds.Trust.parse(city.trust.text) == city.trust
    other = ds.local(issuer_key=issuer_key(bytes(32)).public)
    certain(monkeypatch)
    for name, trust in (("plain", ds.local()), ("other", other), ("right", city.trust)):
        who = person(tmp_path, clock, name, city, "N", trust)
        city.enrol([(name, who.enrolment_key(city.id))])
        signed = opened(city, COUNT, clock, PURE)
        said = NoisedReport.from_bytes(who.answer(signed, post=Way(city))).answer
        assert (said != b"\x00") == (trust == city.trust)
        close(who)
    with pytest.raises(ds.InvalidQueryError, match="one issuer key"):
        ds.City.open(
            tmp_path / "x",
            budget=PURE,
            purposes=[PURPOSE],
            trust=[ENROLLED, ds.local(issuer_key=ISSUERS[0].issuer_key)],
        )


# --- what breaks on the way


def test_where_the_city_does_not_answer_nothing_is_charged_and_asking_again_goes_on(tmp_path, clock, city):
    (who,) = enrolled(tmp_path, clock, city, "ann")
    signed = opened(city, COUNT, clock, PURE)

    def down(*_):
        raise PeerError("down")

    with pytest.raises(PeerError):
        who.answer(signed, post=down)
    with pytest.raises(PeerError, match="with_city"):
        who.answer(signed)
    assert who.spent(PURE, signed).nano == 0
    city.take(who.answer(signed, post=Way(city)))
    assert counted(city, clock) == 1
    close(who)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("what", ["issue", "take", "close", "erase"])
def test_a_stop_at_any_write_costs_nobody_their_report_and_gives_nobody_two(tmp_path, clock, late, what):
    city, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    (who,) = enrolled(tmp_path, clock, city, "ann")
    signed = opened(city, COUNT, clock, PURE)
    task, kept = read_task(signed), city._store

    def stopped():
        city._store = FailingStore(kept, 1, late)
        if "_issuer" in vars(city):
            city._issuer[2]._store = city._store

    def again():
        nonlocal kept
        kept.close()
        made = ds.City.open(tmp_path / "l.city", clock=clock)
        kept = made._store
        return made

    if what == "issue":
        stopped()
        with pytest.raises(Crash):
            who.answer(signed, post=Way(city))
        assert who.spent(PURE, signed).nano == 0
        city = again()
        told = token(city, task, "ann", vault("another vault"), key_of=who._vault.derive)
        assert isinstance(told, ConsentError) == late, "issued before or not, nobody gets two"
        if not late:
            who.close()
            city.close()
            return
    sent = who.answer(signed, post=Way(city))
    if what == "take":
        stopped()
        with pytest.raises(Crash):
            city.take(sent)
        city = again()
        with pytest.raises(DeniedError) if late else pytest.MonkeyPatch.context():
            changed = bytes([NoisedReport.from_bytes(sent).answer[0] ^ 1])
            city.take(report(city, task, token(city, task, "ann", who._vault.derive), changed))
    if not (what == "take" and not late):
        city.take(sent)
    clock.now += LONG
    if what in ("close", "erase"):
        city._store = FailingStore(kept, {"close": 1, "erase": 2}[what], late)
        with pytest.raises(Crash):
            city.release(COUNT, loss=PURE, purpose=PURPOSE)
        city = again()
    release = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert release.responses.tally.reports == 1
    assert not [n for n in city._store.blobs() if n.startswith("responses/")]
    assert city._store.read(responding._stream(task))[-2:] == [b"", b""]
    assert city.release(COUNT, loss=PURE, purpose=PURPOSE).digest == release.digest
    who.close()
    city.close()


def test_two_processes_and_many_threads_count_one_report_of_a_person(tmp_path, clock, city):
    """Each thread has another answer under the same token, and asks for a token with another vault's request."""
    strangers(city, "a")
    task = read_task(opened(city, COUNT, clock, PURE))
    with ds.City.open(tmp_path / "l.city", clock=clock) as other:
        both = (city, other)
        tokens = in_threads(6, lambda i: token(both[i % 2], task, "a", vault(f"vault {i}"), key_of=vault("a")))
        (found,) = [t for t in tokens if isinstance(t, bytes)]
        sent = [report(city, task, found, bytes([n])) for n in range(8)]
        taken = in_threads(8, lambda i: both[i % 2].take(sent[i]))
        assert [type(t) for t in taken].count(type(None)) == 1
        assert {type(t) for t in taken} == {type(None), DeniedError}
        clock.now += LONG
        releases = in_threads(4, lambda i: both[i % 2].release(COUNT, loss=PURE, purpose=PURPOSE))
    assert {r.digest for r in releases} == {releases[0].digest}
    assert releases[0].responses.tally.reports == 1
    assert not [n for n in city._store.blobs() if n.startswith("responses/")]


@pytest.mark.parametrize("same", [True, False], ids=["the same person", "another"])
def test_who_loses_a_race_for_the_stream_looks_again(tmp_path, clock, city, same):
    """Another process keeps a report just before this one writes."""
    strangers(city, "a", "b")
    task = read_task(opened(city, COUNT, clock, PURE))
    mine = report(city, task, token(city, task, "a"), b"\x01")
    theirs = report(city, task, token(city, task, "a" if same else "b"), b"\x02")
    with ds.City.open(tmp_path / "l.city", clock=clock) as other:
        kept = city._store

        class First:
            def __getattr__(self, name):
                return getattr(kept, name)

            def append(self, *given):
                city._store = kept
                other.take(theirs)
                kept.append(*given)

        city._store = First()
        if same:
            with pytest.raises(DeniedError):
                city.take(mine)
        else:
            city.take(mine)
    assert counted(city, clock) == (1 if same else 2)


def test_who_loses_a_race_for_the_release_gives_the_one_that_is_stored(tmp_path, clock, city):
    """Another process releases, and deletes the answers, just before this one reads them."""
    strangers(city, "a")
    task = read_task(opened(city, COUNT, clock, PURE))
    city.take(report(city, task, token(city, task, "a")))
    clock.now += LONG
    with ds.City.open(tmp_path / "l.city", clock=clock) as other:
        kept, first = city._store, []

        class Late:
            def __getattr__(self, name):
                return getattr(kept, name)

            def blob(self, name):
                first.append(other.release(COUNT, loss=PURE, purpose=PURPOSE))
                return kept.blob(name)

        city._store = Late()
        assert city.release(COUNT, loss=PURE, purpose=PURPOSE).digest == first[0].digest
        city._store = kept
        assert len(first) == 1
    gone = Late()
    gone.blob = lambda _: (_ for _ in ()).throw(ds.StoreError("a disk that fails"))
    second = read_task(opened(city, MEAN, clock, PURE))
    city.take(report(city, second, token(city, second, "a"), bytes(second.asked.fit.how.size)))
    clock.now += LONG
    city._store = gone
    with pytest.raises(ds.StoreError, match="disk"):
        city.release(MEAN, loss=PURE, purpose=PURPOSE)
    city._store = kept
    assert city.release(MEAN, loss=PURE, purpose=PURPOSE).responses.tally.reports == 1


def test_the_roll_and_the_issuers_key_outlive_the_operators_key(tmp_path, clock):
    """The consent names the issuer, so that it still counts; people are enrolled for the new id, in their places."""
    city, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    who, late = enrolled(tmp_path, clock, city, "ann", "bo")
    before, issuer = city.id, city.trust.issuer_key
    earlier = opened(city, MEAN, clock, PURE)
    sent = who.answer(earlier, post=Way(city))
    after = city.rotate()
    with ds.City.open(tmp_path / "l.city", clock=clock, trust=ds.local(), enrol=True) as city:
        assert city.id == after != before
        assert city.trust.issuer_key == issuer
        city.take(sent)
        city.take(late.answer(earlier, post=lambda _, path, body: {"tokens": city.tokens}[path](body)))
        signed = opened(city, COUNT, clock, PURE)
        with pytest.raises(ConsentError, match="not on the roll"):
            who.answer(signed, post=Way(city))
        assert city.enrol([("ann", who.enrolment_key(city.id))]) == 2
        city.take(who.answer(signed, post=Way(city)))
        assert counted(city, clock) == 1
        assert city.release(MEAN, loss=PURE, purpose=PURPOSE).responses.tally.reports == 2, "asked under the old id"
    close(who, late)


def test_only_a_city_with_a_roll_is_opened_as_one(tmp_path, clock):
    for trust in (ds.central(), ds.local(issuer_key=ISSUERS[0].issuer_key)):
        with pytest.raises(ds.InvalidQueryError, match="found it with"):
            city_of(tmp_path, clock, trust, enrol=True)
    with pytest.raises(ds.InvalidQueryError, match="makes its issuer key itself"):
        city_of(tmp_path, clock, ds.local(issuer_key=ISSUERS[0].issuer_key))
    made, _ = city_of(tmp_path, clock, ALL, enrol=True)
    made.close()
    for given in ({"trust": ALL}, {"trust": [ds.central(), ds.local()], "enrol": True}):
        with pytest.raises(ds.StoreError, match="trust model"):
            ds.City.open(tmp_path / "l.city", clock=clock, **given)
    free = tmp_path / "free"
    free.mkdir()
    city_of(free, clock, ds.local())[0].close()
    with pytest.raises(ds.StoreError, match="without a roll"):
        ds.City.open(free / "l.city", clock=clock, enrol=True)
    for given in ({"trust": ALL, "enrol": True}, {"trust": made.trust}, {"trust": made.trust, "enrol": True}, {}):
        ds.City.open(tmp_path / "l.city", clock=clock, **given).close()
