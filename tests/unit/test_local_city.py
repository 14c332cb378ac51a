"""A city under local trust: tasks, reports that are noised on devices, releases."""

from __future__ import annotations

import numpy as np
import pytest

import datasov as ds
from datasov.aggregator.client import with_city
from datasov.authority import held
from datasov.city import responding
from datasov.errors import (
    BudgetExceededError,
    ConsentError,
    DeniedError,
    InvalidDataError,
    InvalidQueryError,
    ProofError,
    VerificationError,
)
from datasov.model.release import Release
from datasov.mpc.noised import NoisedReport
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, decode_leaf
from datasov.tlog.record import pack_release, unpack_release
from tests.helpers import PURPOSE, TRIPS, instant
from tests.locals import COUNT, LARGE, MEAN, PURE, certain, city_of, person, read_task, send
from tests.servers import LONG, grant, opened, resident


@pytest.fixture
def city(tmp_path, clock):
    made, _ = city_of(tmp_path, clock, ds.local())
    with made:
        yield made


def people_of(tmp_path, clock, city, districts, **given):
    return [person(tmp_path, clock, n, city, d, ds.local(), **given) for n, d in enumerate(districts)]


def test_a_count_is_estimated_with_a_leaf_and_a_receipt(tmp_path, clock, city, monkeypatch):
    everybody = people_of(tmp_path, clock, city, ["N", "N", "E", None, "S"])
    with monkeypatch.context() as patch:
        certain(patch)
        task = opened(city, COUNT, clock, PURE)
        assert city.tasks() == [task]
        send(city, None, everybody, task)
    clock.now += LONG
    release = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    how = read_task(task).asked.fit.how
    assert release.responses.tally.reports == 5
    assert release.responses.tally.supports.tolist() == [2, 1, 1, 0]
    expected = [(s - 5 * how.other) / (how.own - how.other) for s in (2, 1, 1, 0)]
    frame = release.frame()
    assert np.allclose(frame["count"], expected)
    assert (frame["count_low"] <= frame["count"].clip(0, 5)).all()
    assert (frame["count_high"] >= frame["count"].clip(0, 5)).all()
    assert frame["count_high"].max() <= 5
    assert release.mechanism == "randomised response"
    assert release.trust == ds.local()
    assert "nobody" in release.trust.trusted["local"]
    leaves = [decode_leaf(leaf) for leaf in city.log.leaves(0, city.log.checkpoint().size)]
    (notice,) = [leaf for leaf in leaves if isinstance(leaf, NoticeLeaf) and leaf.subject == "task"]
    (told,) = [leaf for leaf in leaves if isinstance(leaf, ReleaseLeaf)]
    assert notice.identity == read_task(task).id
    assert (told.trust, told.mechanism, told.result_digest) == ("local", release.mechanism, release.digest)
    assert len(everybody[0].receipts(city.log)) == 1
    again = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert again.digest == release.digest
    assert unpack_release(pack_release(release)).digest == release.digest
    with pytest.raises(InvalidQueryError, match="intervals"):
        release.scale("count")
    adjusted = release.frame(adjusted=True)["count_adjusted"]
    assert adjusted.sum() == max(round(sum(np.rint(expected))), 0)
    for who in everybody:
        who.close()


def test_other_supports_are_another_release(tmp_path, clock, city):
    (who,) = people_of(tmp_path, clock, city, ["N"])
    task = opened(city, COUNT, clock, PURE)
    city.take(who.answer(task))
    clock.now += LONG
    release = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    words = release.words
    words[-1] = bytes(8) + (9).to_bytes(8, "little") + words[-1][16:]
    other = Release.from_document(release.document(), dict(enumerate(words)))
    assert other.digest != release.digest
    who.close()


def test_the_budget_is_charged_when_opened_and_the_account_whole_and_once(tmp_path, clock, city):
    first, second = people_of(tmp_path, clock, city, ["N", None])
    task = opened(city, COUNT, clock, PURE)
    assert city.remaining == ds.pure(epsilon=99)
    for who in (first, second):
        assert who.answer(task) == who.answer(task)
        assert who.spent(PURE, task) == PURE, "also of somebody without a row"
    city.take_many([first.answer(task), second.answer(task)])
    clock.now += LONG
    city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert city.remaining == ds.pure(epsilon=99)
    for who in (first, second):
        who.close()


def test_asked_again_a_device_repeats_itself_at_no_cost_until_a_renewal(tmp_path, clock, city):
    (who,) = people_of(tmp_path, clock, city, ["N"], loss=ds.pure(epsilon=2))
    said = []
    for _ in range(4):
        task = opened(city, COUNT, clock, PURE, every=2)
        said.append((read_task(task).renewal, NoisedReport.from_bytes(who.answer(task))))
        who.put(TRIPS, [{"district": "E", "km": 1}])
        clock.now += 86_400
    renewals = [n for n, _ in said]
    assert len(set(renewals)) in (2, 3)
    by_renewal = {n: {r.answer for m, r in said if m == n} for n in renewals}
    assert all(len(answers) == 1 for answers in by_renewal.values())
    assert len({r.tag for _, r in said}) == 4, "tags of two tasks are not linked"
    assert who.spent(PURE, task).nano == min(len(set(renewals)), 2) * PURE.nano
    who.close()


@pytest.mark.parametrize("case", ["refuses", "no consent", "revoked", "spent", "another trust"])
def test_who_does_not_answer_sends_a_null_report_that_costs_nothing(tmp_path, clock, city, case, monkeypatch):
    who = resident(tmp_path, clock, case, {TRIPS: [{"district": "N", "km": 7}]})
    if case != "no consent":
        loss = ds.pure(epsilon="0.5") if case == "spent" else LARGE
        consent = grant(who, city, loss=loss, trust=ds.central() if case == "another trust" else ds.local())
    if case == "revoked":
        assert who.revoke(consent) == b""
    task = opened(city, COUNT, clock, PURE)
    with monkeypatch.context() as patch:
        certain(patch)
        report = NoisedReport.from_bytes(who.answer(task, refuse=case == "refuses"))
    assert report.answer == b"\x00"
    assert who.spent(PURE, task).nano == 0
    city.take(report.to_bytes())
    who.close()


def test_reports_are_of_their_task_in_its_time_and_one_a_vault(tmp_path, clock, city):
    first, second = people_of(tmp_path, clock, city, ["N", "E"])
    task = opened(city, COUNT, clock, PURE)
    report, other = first.answer(task), second.answer(task)
    city.take(report)
    city.take(report)
    read = NoisedReport.from_bytes(report)
    changed = NoisedReport(read.task, read.tag, bytes([read.answer[0] ^ 1])).to_bytes()
    with pytest.raises(DeniedError):
        city.take(changed)
    for wrong in (b"", b"junk", NoisedReport(bytes(32), read.tag, read.answer).to_bytes(),
                  NoisedReport(read.task, bytes(16), b"\xff").to_bytes(),
                  NoisedReport(read.task, bytes(16), b"\x01\x01").to_bytes()):  # fmt: skip
        with pytest.raises(VerificationError):
            city.take(wrong)
    refused = city.take_many([other, changed, report, other])
    assert [type(r) for r in refused] == [type(None), DeniedError, type(None), type(None)]
    with pytest.raises(InvalidQueryError, match="still open"):
        city.release(COUNT, loss=PURE, purpose=PURPOSE)
    clock.now += LONG
    with pytest.raises(InvalidDataError):
        city.take(NoisedReport(read.task, bytes(16), read.answer).to_bytes())
    assert city.release(COUNT, loss=PURE, purpose=PURPOSE).responses.tally.reports == 2
    for who in (first, second):
        who.close()


def test_answers_are_deleted_once_their_release_is_stored_and_their_tags_stay(tmp_path, clock, city, monkeypatch):
    everybody = people_of(tmp_path, clock, city, ["N", "E", "S"])
    task = opened(city, COUNT, clock, PURE)
    reports = [NoisedReport.from_bytes(who.answer(task)) for who in everybody]
    city.take(reports[0].to_bytes())
    city.take_many([r.to_bytes() for r in reports])
    stream = "responses/" + read_task(task).id.hex()
    names = [n for n in city._store.blobs() if n.startswith(stream)]
    assert len(names) == 2
    bodies = [city._store.blob(n) for n in names]
    assert [b[32:] for b in bodies] == [reports[0].answer, reports[1].answer + reports[2].answer]
    assert len({b[:32] for b in bodies}) == 2, "salted: the store's chain of hashes tells nothing of what is deleted"
    monkeypatch.setattr(responding, "_AT_ONCE", 1)
    clock.now += LONG
    city.tick()
    assert len([n for n in city._store.blobs() if n.startswith(stream)]) == 2, "not before there is a release"
    release = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert release.responses.tally.reports == 3
    assert release.responses.tally.supports.sum() == sum(r.answer[0].bit_count() for r in reports)
    assert not [n for n in city._store.blobs() if n.startswith(stream)]
    assert city._store.read(stream) == [reports[0].tag, reports[1].tag + reports[2].tag, b"", b""]
    for end in ("", "-wal"):
        held_ = (tmp_path / "l.city" / f"city.db{end}").read_bytes()
        assert not any(b in held_ for b in bodies)
    city.tick()
    city._store.verify()
    assert city.release(COUNT, loss=PURE, purpose=PURPOSE).digest == release.digest
    for who in everybody:
        who.close()


def test_what_a_stop_left_is_deleted_by_the_next_tick(tmp_path, clock, city):
    (who,) = people_of(tmp_path, clock, city, ["N"])
    task = opened(city, COUNT, clock, PURE)
    city.take(who.answer(task))
    clock.now += LONG
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(city), "_erase", lambda *_: None)
        city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert [n for n in city._store.blobs() if n.startswith("responses/")]
    city.tick()
    assert not [n for n in city._store.blobs() if n.startswith("responses/")]
    who.close()


def test_a_task_without_a_roll_takes_so_many_reports_and_says_so(tmp_path, clock, city, monkeypatch):
    monkeypatch.setattr(responding, "MOST_REPORTS", 2)
    everybody = people_of(tmp_path, clock, city, "NESW")
    task = opened(city, COUNT, clock, PURE)
    reports = [who.answer(task) for who in everybody]
    found = city.take_many(reports[:3])
    assert [type(f) for f in found] == [type(None), type(None), DeniedError]
    for report in (reports[3], reports[2]):
        with pytest.raises(DeniedError, match="all the reports"):
            city.take(report)
    city.take(reports[0])
    clock.now += LONG
    assert city.release(COUNT, loss=PURE, purpose=PURPOSE).responses.tally.reports == 2
    monkeypatch.undo()
    assert (responding.most(1), responding.most(8192)) == (4_194_304, 2_097_152)
    for who in everybody:
        who.close()


def test_a_report_that_comes_while_the_release_is_made_is_refused_and_not_half_counted(tmp_path, clock, city):
    """A clock that goes back, or a slow process: once the answers are being added, no more are taken."""
    first, second = people_of(tmp_path, clock, city, ["N", "E"])
    task = opened(city, COUNT, clock, PURE)
    reports = [who.answer(task) for who in (first, second)]
    city.take(reports[0])
    clock.now += LONG
    assert city.release(COUNT, loss=PURE, purpose=PURPOSE).responses.tally.reports == 1
    clock.now -= LONG
    for report in reports:
        with pytest.raises(InvalidDataError, match="no reports now"):
            city.take(report)
    first.close()
    second.close()


def test_a_city_with_a_roll_is_bounded_by_it_alone(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(responding, "MOST_REPORTS", 1)
    city, _ = city_of(tmp_path, clock, ds.local(), enrol=True)
    everybody = [person(tmp_path, clock, n, city, "N", city.trust) for n in range(3)]
    city.enrol([(str(n), who.enrolment_key(city.id)) for n, who in enumerate(everybody)])
    task, way = opened(city, COUNT, clock, PURE), with_city(lambda path, body: {"tokens": city.tokens}[path](body))
    assert city.take_many([who.answer(task, post=way) for who in everybody]) == [None] * 3
    clock.now += LONG
    release = city.release(COUNT, loss=PURE, purpose=PURPOSE)
    assert release.responses.tally.reports == 3
    assert release.trust.issuer_key == city.trust.issuer_key
    assert release.trust.trusted == {city.trust.text: city.trust.trusted[city.trust.text]}
    assert "enrols" in release.trust.trusted[city.trust.text]
    (told,) = [leaf for leaf in map(decode_leaf, city.log.leaves()) if isinstance(leaf, ReleaseLeaf)]
    assert told.trust == city.trust.text
    assert len(everybody[0].receipts(city.log)) == 1
    for who in everybody:
        who.close()
    city.close()


def test_reports_are_kept_over_a_restart(tmp_path, clock):
    city, _ = city_of(tmp_path, clock, ds.local())
    who = person(tmp_path, clock, 1, city, "N", ds.local())
    task = opened(city, COUNT, clock, PURE)
    city.take(who.answer(task))
    city.close()
    with ds.City.open(tmp_path / "l.city", clock=clock) as city:
        assert city.trust == ds.local()
        read = NoisedReport.from_bytes(who.answer(task))
        with pytest.raises(DeniedError):
            city.take(NoisedReport(read.task, read.tag, bytes([read.answer[0] ^ 1])).to_bytes())
        clock.now += LONG
        assert city.release(COUNT, loss=PURE, purpose=PURPOSE).responses.tally.reports == 1
    who.close()


def test_means_and_previews(tmp_path, clock, city):
    preview = city.preview(MEAN, loss=PURE)
    assert preview.frame["margin"][0] > 0
    assert any("10,000" in note for note in preview.notes)
    how = read_task(opened(city, COUNT, clock, PURE)).asked.fit.how
    counted = city.preview(COUNT, loss=PURE).frame
    assert np.isclose(counted["sigma"][0], how.deviation(10_000))
    everybody = [person(tmp_path, clock, n, city, "N", ds.local(), km=10 + n) for n in range(4)]
    task = opened(city, MEAN, clock, LARGE)
    send(city, None, everybody, task)
    clock.now += LONG
    frame = city.release(MEAN, loss=LARGE, purpose=PURPOSE).frame()
    assert (frame["km_mean_low"] <= frame["km_mean"]).all()
    assert (frame["km_mean"] <= frame["km_mean_high"]).all()
    for who in everybody:
        who.close()


@pytest.mark.parametrize(
    ("query", "loss"),
    [
        (COUNT, ds.zcdp(rho="0.1")), (ds.query(TRIPS).keys("district").bound(rows=2, keys=2).count(), PURE),
        (COUNT.top(1), PURE), (ds.query(TRIPS).keys("district").bound(rows=1, keys=1).median("km"), PURE),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_spent(tmp_path, clock, query, loss):
    with city_of(tmp_path, clock, ds.local(), budget=ds.zcdp(rho=100))[0] as city:
        before = city.remaining
        for ask in (lambda: opened(city, query, clock, loss), lambda: city.preview(query, loss=loss)):
            with pytest.raises(InvalidQueryError, match=r"two servers or central|pure epsilon"):
                ask()
        assert city.remaining == before


def test_a_budget_that_is_spent_opens_nothing(tmp_path, clock):
    with city_of(tmp_path, clock, ds.local(), budget=PURE)[0] as city:
        opened(city, COUNT, clock, PURE)
        with pytest.raises(BudgetExceededError):
            opened(city, MEAN, clock, PURE)


def test_it_takes_no_rows_and_no_token_of_it_is_admitted_elsewhere(tmp_path, clock, city):
    who = person(tmp_path, clock, 1, city, "N", ds.local())
    (consent,) = who.consents
    with pytest.raises(ConsentError, match="no row leaves"):
        who.contribute(consent)
    with pytest.raises(ConsentError, match="takes no rows"):
        city.admit(consent, b"")
    who.close()


def test_two_devices_that_merge_keep_what_either_said_and_spent():
    from datasov.portability.notes import combined

    name, first, second = held.NOISED + "q", held.SPENT + "a/1", held.SPENT + "a/2"
    one, two = (
        {name: b"2", first: bytes(15) + b"\x05" + bytes(16)},
        {name: b"1", first: bytes(15) + b"\x02" + bytes(16), second: bytes(15) + b"\x03" + bytes(16)},
    )
    for mine, theirs in ((one, two), (two, one), ({}, combined(one, two)), (combined(one, two), combined(one, two))):
        found = combined(mine, theirs)
        assert found[name] == b"1"
        assert found[first] == bytes(15) + b"\x05" + bytes(16), "the larger of what one device noted"
        assert found[second] == bytes(15) + b"\x03" + bytes(16), "beside what the other one spent"


def test_a_task_of_another_trust_or_encoding_is_none(clock, city):
    import json

    from datasov.wire import cose

    task = read_task(opened(city, COUNT, clock, PURE))
    signed = task.signed(city._key)
    assert read_task(signed).text == task.text
    for change in ({"renewal": 1.5}, {"responses": ["unary", 4, (0.4).hex()]}, {"trust": {"model": "central"}}):
        doc = json.loads(task.text) | change
        text = json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        with pytest.raises(VerificationError):
            read_task(cose.sign1(text, city._key, "datasov task v1"))


def test_a_log_that_is_no_citys_is_no_receipt(tmp_path, clock, city):
    who = resident(tmp_path, clock, "x", {TRIPS: []})
    assert who.receipts(city.log) == []
    with pytest.raises(ProofError):
        who.notices(city.log)
    who.close()
    assert instant(clock.now)
