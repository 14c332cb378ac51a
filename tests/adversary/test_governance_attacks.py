"""Claim: only the thresholds of both groups widen what a city may ask, and no consent is bypassed by any of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import datasov as ds
from datasov.authority import approval
from datasov.authority.approval import Signed
from datasov.commands import words
from datasov.crypto.sign import SigningKey
from datasov.errors import (
    ConsentError,
    ProgrammeError,
    ProofError,
    SignatureError,
    VerificationError,
)
from datasov.governing import Governing
from datasov.model.charter import CHARTER, DAY, Charter, Group, Member
from datasov.model.document import canonical
from datasov.model.programme import PROGRAMME
from datasov.model.template import Allowed
from datasov.notices import read_notices
from datasov.tlog.leaves import NoticeLeaf, ReleaseLeaf, StepLeaf, decode_leaf, encode_leaf
from datasov.tlog.log import Log
from tests.governing import (
    ASSEMBLY,
    BASE,
    COUNCIL,
    ORDINARY,
    TEMPLATE,
    URGENT,
    charter_for,
    governed_city,
    members,
    programme_for,
    release,
    signed,
    unchanged,
    unchanged_but_ticks,
    urgent_for,
)
from tests.helpers import NOW, PEOPLE, PURPOSE, TRIPS, Clock, MemoryStore, enrol, found_city, key_of, revocation


@pytest.fixture
def city(tmp_path: Path, clock: Clock):
    with governed_city(tmp_path, clock) as found:
        yield found


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory):
    """A city under a charter for tests that change nothing."""
    with governed_city(tmp_path_factory.mktemp("still"), Clock()) as found:
        yield found


@pytest.fixture
def running(city: ds.City, clock: Clock) -> ds.City:
    """A city with a programme that runs."""
    city.approve(signed(programme_for(city)))
    clock.now += 3 * DAY
    return city


# --- signatures and thresholds


def short(*names: str) -> tuple[str, ...]:
    return tuple(n for n in ORDINARY if n not in names)


@pytest.mark.parametrize("by", [
    (), COUNCIL, ASSEMBLY, (*COUNCIL, *ASSEMBLY[:3]), (*COUNCIL[:2], *ASSEMBLY), short(COUNCIL[0]), short(ASSEMBLY[0]),
    (*ORDINARY[1:], "a stranger"),
])  # fmt: skip
def test_one_group_alone_or_one_signer_too_few_approves_nothing(still, by):
    unchanged(still, lambda: still.approve(signed(programme_for(still), by)), ProgrammeError, "must sign")


@pytest.mark.parametrize("by", [(), COUNCIL, ASSEMBLY, short(COUNCIL[0]), short(ASSEMBLY[0])])
def test_a_first_charter_needs_its_own_thresholds(tmp_path, clock, by):
    with found_city(tmp_path, clock) as city:
        unchanged(city, lambda: city.adopt(signed(charter_for(city), by)), ProgrammeError, "must sign")


def test_one_key_under_two_names_is_no_charter(still):
    twice = (*members(COUNCIL[:4]), Member("somebody else", key_of(COUNCIL[0]).public))
    for changed in (
        {"council": Group(twice, 3, 4)},
        {"assembly": Group((*members(ASSEMBLY[:6]), Member("a councillor", key_of(COUNCIL[0]).public)), 4, 6)},
        {"operators": (Member("operator", key_of(COUNCIL[0]).public),)},
    ):
        with pytest.raises(ds.InvalidQueryError, match=r"one key|operator"):
            charter_for(still, **changed)


def test_a_key_counts_once_however_often_it_signs(still):
    """Two different valid signatures of one key, under two spellings of its name, are one signer."""
    document = programme_for(still).document()
    few = [approval.sign(PROGRAMME, document, key_of(n)) for n in short(COUNCIL[0])]
    once = approval.signed(PROGRAMME, document, [*few, few[0], few[0]])
    unchanged(still, lambda: still.approve(once), ProgrammeError, "1 more of the council")
    text = json.loads(once.to_bytes())
    first = next(iter(text["signatures"]))
    text["signatures"][first.upper()] = text["signatures"][first]
    unchanged(still, lambda: still.approve(json.dumps(text).encode()), VerificationError)
    doubled = once.to_bytes().replace(b'"signatures":{', f'"signatures":{{"{first}":"{"00" * 64}",'.encode())
    unchanged(still, lambda: still.approve(doubled), VerificationError, "twice")


def test_a_signature_over_another_document_or_kind_or_of_no_key_counts_for_nothing(still):
    programme = programme_for(still)
    other = replace(programme, total=ds.zcdp(rho="0.5")).document()
    document = programme.document()
    good = [approval.sign(PROGRAMME, document, key_of(n)) for n in ORDINARY[1:]]
    key = key_of(ORDINARY[0])
    for wrong in (approval.sign(PROGRAMME, other, key), approval.sign(CHARTER, document, key)):
        with pytest.raises(SignatureError, match="another document"):
            approval.signed(PROGRAMME, document, [*good, wrong])
        forged = {s.key: s.signature for s in (*good, wrong)}
        unchanged(still, lambda f=forged: still.approve(Signed(PROGRAMME, document, f)), SignatureError)
    # R = identity and S = 0 verify under the identity key in careless libraries; so it is no member and no signer.
    weak = bytes([1]) + bytes(31)
    found = {s.key: s.signature for s in good} | {weak: weak + bytes(32)}
    unchanged(still, lambda: still.approve(Signed(PROGRAMME, document, found)), SignatureError)
    group = Group((*members(COUNCIL[:4]), Member("nobody", weak)), 3, 4)
    bad = signed(replace(charter_for(still), version=2, council=group), (*ORDINARY, *COUNCIL))
    unchanged(still, lambda: still.adopt(bad), SignatureError, "public key")


@pytest.mark.parametrize(("path", "value"), [
    (("total", "nano"), 10**9), (("largest", "nano"), 2 * 10**7), (("cohort",), 1),
    (("expires",), "2050-01-01T00:00:00Z"),
    (("template", "where"), ["km", "district"]), (("tables", 0, "columns"), ["district"]), (("purpose",), "another"),
    (("retention_days",), 36525), (("emergency",), True), (("mechanisms",), ["discrete Laplace"]), (("version",), 2),
])  # fmt: skip
def test_a_programme_widened_after_signing_is_not_the_signed_one(still, path, value):
    text = json.loads(signed(programme_for(still)).to_bytes())
    at = text["document"]
    for step in path[:-1]:
        at = at[step]
    assert at[path[-1]] != value
    at[path[-1]] = value
    unchanged(still, lambda: still.approve(json.dumps(text).encode()), (SignatureError, ProgrammeError))


def test_a_charter_is_no_programme_and_the_other_way_round(still):
    unchanged(still, lambda: still.approve(signed(charter_for(still))), VerificationError, "no programme")
    unchanged(still, lambda: still.adopt(signed(programme_for(still))), VerificationError, "no charter")
    document = {**charter_for(still).document(), "type": PROGRAMME}
    relabelled = approval.signed(CHARTER, document, [approval.sign(CHARTER, document, key_of(n)) for n in ORDINARY])
    unchanged(still, lambda: still.adopt(relabelled), VerificationError)


# --- rotation


NEW = tuple(f"new council {n}" for n in range(3))


def rotated(city: ds.City, by: tuple[str, ...], **changed: Any) -> Signed:
    values = {"version": 2, "issued": NOW, "council": Group(members(NEW), 2, 3), **changed}
    return signed(replace(charter_for(city), **values), by)


def test_a_rotation_needs_the_old_and_the_new_thresholds(city):
    both = (*ORDINARY, *NEW[:2])
    for by in (
        (*NEW, *ASSEMBLY), ORDINARY, (*both[1:],), (*ORDINARY, NEW[0]), tuple(n for n in both if n != ASSEMBLY[0]),
    ):  # fmt: skip
        unchanged(city, lambda by=by: city.adopt(rotated(city, by)), ProgrammeError, "must sign")
    assert city.adopt(rotated(city, both)).version == 2
    unchanged(
        city, lambda: city.approve(signed(programme_for(city, charter=2), ORDINARY)), ProgrammeError, "2 more of the"
    )
    assert city.approve(signed(programme_for(city, charter=2), (*NEW[:2], *ASSEMBLY[:4]))).programme.charter == 2


def test_versions_are_not_skipped_repeated_or_taken_back(city):
    same = signed(charter_for(city))
    unchanged(city, lambda: city.adopt(same), ProgrammeError, "version 1")
    by = (*ORDINARY, *NEW)
    unchanged(city, lambda: city.adopt(rotated(city, by, version=3)), ProgrammeError, "version 3")
    city.adopt(rotated(city, by))
    for old in (same, rotated(city, by), rotated(city, by, version=1)):
        unchanged(city, lambda old=old: city.adopt(old), ProgrammeError, "version")
    earlier = rotated(city, by, version=3, issued=NOW - 1)
    unchanged(city, lambda: city.adopt(earlier), ProgrammeError, "issued before")


def test_a_charter_of_another_city_or_operator_is_not_adopted(tmp_path, clock, city):
    with ds.City.open(tmp_path / "hill.city", budget=ds.zcdp(rho=1), purposes=[PURPOSE], clock=clock) as other:
        unchanged(other, lambda: other.adopt(signed(charter_for(city))), ProgrammeError, "another city")
        stolen = replace(charter_for(other), operators=charter_for(city).operators)
        unchanged(other, lambda: other.adopt(signed(stolen)), ProgrammeError, "operators")
        other.adopt(signed(charter_for(other)))
        unchanged(other, lambda: other.approve(signed(programme_for(city))), ProgrammeError, "charter")
    renamed = replace(charter_for(city), version=2, city=charter_for(city).city.replace("lake", "hill"))
    unchanged(city, lambda: city.adopt(signed(renamed)), ProgrammeError, "another city")


def test_a_second_first_charter_is_never_adopted(city):
    usurped = replace(charter_for(city), council=Group(members(NEW), 2, 3), issued=NOW)
    unchanged(city, lambda: city.adopt(signed(usurped, (*NEW, *ASSEMBLY))), ProgrammeError, "the next one is 2")
    with pytest.raises(ds.StoreError, match="first charter"):
        ds.City.open(city._path, clock=lambda: NOW, charter=signed(usurped, (*NEW, *ASSEMBLY)))
    ds.City.open(city._path, clock=lambda: NOW, charter=signed(charter_for(city))).close()


def test_an_expired_charter_allows_nothing_but_its_successor(tmp_path, clock):
    with governed_city(tmp_path, clock, expires=NOW + 20 * DAY, open=((PURPOSE, ds.zcdp(rho="0.5")),)) as city:
        found = city.approve(signed(programme_for(city)))
        clock.now += 3 * DAY
        release(city)
        release(city, BASE.mean("km"))
        clock.now = NOW + 20 * DAY
        for work in (
            lambda: release(city), lambda: release(city, BASE.mean("km")),
            lambda: release(city, programme=found.identity, as_of=(NOW + 3 * DAY) // DAY),
            lambda: city.approve(signed(programme_for(city, name="more", issued=NOW))),
        ):  # fmt: skip
            unchanged_but_ticks(city, work, ProgrammeError, "expired")
        assert city.programmes == ()
        successor = replace(charter_for(city), version=2, issued=clock.now, expires=clock.now + DAY * 100)
        city.adopt(signed(successor))
        release(city)


def test_a_future_or_expired_charter_is_not_adopted(tmp_path, clock):
    with found_city(tmp_path, clock) as city:
        for changed in ({"issued": NOW + 1}, {"expires": NOW}):
            unchanged(city, lambda c=changed: city.adopt(signed(charter_for(city, **c))), ProgrammeError, "in force")


# --- emergencies


def test_an_emergency_needs_more_signatures_and_ends_soon(city):
    for by in (ORDINARY, (*COUNCIL[:3], *ASSEMBLY), (*COUNCIL, *ASSEMBLY[:5])):
        unchanged(city, lambda by=by: city.approve(signed(urgent_for(city), by)), ProgrammeError, "must sign")
    long = urgent_for(city, expires=NOW + 7 * DAY + 1)
    unchanged(city, lambda: city.approve(signed(long, URGENT)), ProgrammeError, "within 7 days")
    later = urgent_for(city, not_before=NOW + 30 * DAY, expires=NOW + 33 * DAY)
    unchanged(city, lambda: city.approve(signed(later, URGENT)), ProgrammeError, "within 7 days")
    assert city.approve(signed(urgent_for(city), URGENT)).starts == NOW, "at once, without notice"
    release(city)


def test_emergencies_do_not_follow_each_other(city, clock):
    city.approve(signed(urgent_for(city), URGENT))
    clock.now = NOW + 5 * DAY + 7 * DAY - 1
    again = urgent_for(city, version=2, issued=clock.now, not_before=clock.now, expires=clock.now + 5 * DAY)
    for renewed in (again, replace(again, name="another flood", version=1)):
        unchanged(city, lambda r=renewed: city.approve(signed(r, URGENT)), ProgrammeError, "7 days after")
    assert not city.approve(signed(replace(again, expires=clock.now + 50 * DAY, emergency=False))).programme.emergency
    clock.now += 1
    assert city.approve(signed(urgent_for(
        city, name="another", issued=clock.now, not_before=clock.now, expires=clock.now + 7 * DAY
    ), URGENT)).programme.emergency  # fmt: skip


@pytest.mark.parametrize(("council", "assembly", "days"), [
    (Group(members(COUNCIL), 3, 3), Group(members(ASSEMBLY), 4, 6), 7),
    (Group(members(COUNCIL), 3, 2), Group(members(ASSEMBLY), 4, 6), 7),
    (Group(members(COUNCIL), 3, 4), Group(members(ASSEMBLY), 4, 4), 7),
    (Group(members(COUNCIL), 3, 6), Group(members(ASSEMBLY), 4, 6), 7),
    (Group(members(COUNCIL), 3, 4), Group(members(ASSEMBLY), 4, 0), 7),
    (Group(members(COUNCIL), 3, 4), Group(members(ASSEMBLY), 4, 6), 0),
    (Group(members(COUNCIL), 3, 4), Group(members(ASSEMBLY), 4, 6), 15),
    (Group(members(COUNCIL), 0, 1), Group(members(ASSEMBLY), 4, 6), 7),
])  # fmt: skip
def test_no_charter_makes_an_emergency_as_easy_as_an_ordinary_approval(still, council, assembly, days):
    document = {
        **charter_for(still).document(), "emergency_days": days, "council": council.document(),
        "assembly": assembly.document(),
    }  # fmt: skip
    with pytest.raises(ds.InvalidQueryError):
        Charter.from_document(document)


def test_without_emergencies_in_the_charter_there_are_none(tmp_path, clock):
    plain = {"council": Group(members(COUNCIL), 3), "assembly": Group(members(ASSEMBLY), 4), "emergency_days": 0}
    with governed_city(tmp_path, clock, **plain) as city:
        everybody = signed(urgent_for(city), (*COUNCIL, *ASSEMBLY))
        unchanged(city, lambda: city.approve(everybody), ProgrammeError, "foresees no")


# --- there is no public-interest bypass


def test_no_approval_of_any_kind_draws_on_who_did_not_consent(city, clock):
    """Everybody signs, in an emergency, with all that the charter could leave open: rows come from consents alone."""
    everybody = (*COUNCIL, *ASSEMBLY)
    consents = enrol(city, range(8), lambda n: [{"district": "N", "km": n}] * 5, loss=ds.zcdp(rho="0.5"))
    for n in range(4):
        city.revoke(revocation(consents[n], n))
    wide = replace(TEMPLATE, aggregates=(Allowed("coverage"),), keys=())
    urgent = urgent_for(
        city, largest=ds.zcdp(rho="0.2"), total=ds.zcdp(rho="0.2"), period=None, period_days=0, template=wide
    )
    city.approve(signed(urgent, everybody))
    answer = release(city, ds.query(TRIPS).bound(rows=5, keys=1).coverage(), ds.zcdp(rho="0.2"))
    low, high = answer.overall(1 - 1e-9).row(0)[1:]
    assert high - low < 24
    assert low <= 4 <= high
    (partition,) = city._registry.refresh()
    spent = city._ledger.spent(partition.name, 8)[0]
    assert (spent[:4] == 0).all(), "who revoked takes part in nothing"
    assert (spent[4:] > 0).all()


@pytest.mark.parametrize("changed", [
    {"purpose": "undeclared"}, {"consent": None}, {"bypass": True}, {"override_consent": True}, {"legal_basis": "law"},
    {"loss_cap": None}, {"trust": ["root"]}, {"emergency": "yes"}, {"emergency": 1}, {"tables": []},
    {"retention_days": 0}, {"cohort": -1}, {"largest": None}, {"total": None}, {"template": None}, {"charter": 0},
])  # fmt: skip
def test_no_field_of_a_programme_says_that_consent_is_not_needed(still, changed):
    document = {**urgent_for(still).document(), **changed}
    by = (*COUNCIL, *ASSEMBLY)
    found = approval.signed(PROGRAMME, document, [approval.sign(PROGRAMME, document, key_of(n)) for n in by])
    unchanged(still, lambda: still.approve(found), (VerificationError, ProgrammeError))


@pytest.mark.parametrize("purpose", ["", "*", "any", "public interest", PURPOSE + " "])
def test_no_open_purpose_stands_for_another_one(tmp_path, clock, purpose):
    with found_city(tmp_path, clock) as city:
        try:
            city.adopt(signed(charter_for(city, open=((purpose, ds.zcdp(rho=1)),))))
        except ds.InvalidQueryError:
            return
        unchanged(city, lambda: release(city), ProgrammeError)
        unchanged(city, lambda: release(city, purpose=purpose), ConsentError)


def test_the_operator_cannot_go_around_the_charter(running):
    """Nothing that a caller passes names another authority, and every door asks."""
    series = ds.series(ds.query(TIMED).count(), every="1d", rows=1, start="2027-01-01", steps=4)
    for work in (
        lambda: release(running, BASE.mean("km")), lambda: release(running, BASE.mean("km"), programme=bytes(32)),
        lambda: running.follow(series, loss=ds.zcdp(rho="0.01"), purpose=PURPOSE),
        lambda: running.suggest_bounds(BASE.mean("km"), loss=ds.zcdp(rho="0.01"), purpose=PURPOSE),
        lambda: release(running, BASE.mean("km"), as_of=running.epoch),
    ):  # fmt: skip
        unchanged_but_ticks(running, work, ProgrammeError)
    for wrong in (b"short", "zz", 5, "00"):
        unchanged_but_ticks(running, lambda w=wrong: release(running, programme=w), ds.InvalidQueryError)


TIMED = ds.Schema("stops", domain="mobility", columns={"at": ds.Timestamp("2027-01-01", "2027-12-31")})


# --- what residents see


def test_every_notice_and_release_is_checked_by_who_reads_the_log(running, clock):
    enrol(running, range(3), lambda n: [{"district": "N", "km": n}])
    release(running)
    running.approve(signed(urgent_for(
        running, issued=clock.now, not_before=clock.now, expires=clock.now + DAY
    ), URGENT))  # fmt: skip
    found = read_notices(running.log.leaves(), running.log.checkpoint(), running.id)
    assert [n.subject for n in found] == ["charter", "programme", "emergency"]
    assert found[1].identity.hex() == running.releases()[0].programme
    assert found[2].signers == {key_of(n).public for n in URGENT}


def forge(city: ds.City, change: Callable[[Any], Any]) -> tuple[list[bytes], Any]:
    """All leaves of a log whose operator changed some, under a checkpoint of the operator's own."""
    leaves = []
    for data in city.log.leaves():
        changed = change(decode_leaf(data))
        leaves += [encode_leaf(leaf) for leaf in (changed if isinstance(changed, list) else [changed])]
    store = MemoryStore()
    store.append({"log": (0, leaves)})
    return leaves, Log(store, city._key, city.log.origin).checkpoint()


@pytest.mark.parametrize("name", [
    "no notice", "no programme named", "an unapproved programme", "another purpose", "a larger loss",
    "another mechanism", "another table", "after its end", "an ordinary notice for an emergency",
    "a programme that few signed", "more than the total", "more than its period", "a notice of other bytes",
    "no charter", "a time before any charter", "another city's charter",
])  # fmt: skip
def test_an_operator_who_forges_the_log_is_found_out(running, clock, name):
    release(running)
    clock.now += 2 * DAY
    running.approve(
        signed(urgent_for(running, issued=clock.now, not_before=clock.now, expires=clock.now + DAY), URGENT)
    )
    few = signed(programme_for(running), ORDINARY[1:])
    beside = replace(running.id, name="beside", seal_key=bytes([9]) + bytes(31))
    other = signed(replace(charter_for(running), city=str(beside)))

    def change(leaf: Any) -> Any:
        if isinstance(leaf, NoticeLeaf):
            swap: dict[str, Any] = {
                "an ordinary notice for an emergency": replace(leaf, subject="programme"),
                "a programme that few signed": replace(leaf, body=few.to_bytes(), identity=few.identity),
                "a notice of other bytes": replace(leaf, body=b" " + leaf.body),
                "no notice": [],
            }  # fmt: skip
            if name == "no charter":
                return [] if leaf.subject == "charter" else leaf
            if name == "another city's charter":
                own = leaf.subject == "charter"
                return replace(leaf, body=other.to_bytes(), identity=other.identity) if own else []
            wanted = "emergency" if name.startswith("an ordinary") else "programme"
            return swap.get(name, leaf) if leaf.subject == wanted else leaf
        if not isinstance(leaf, ReleaseLeaf):
            return leaf
        swapped = {
            "no programme named": {"programme": b""}, "an unapproved programme": {"programme": bytes(32)},
            "a time before any charter": {"programme": b"", "time": NOW - 2 * DAY},
            "another purpose": {"purpose": "sale"}, "a larger loss": {"loss": ds.zcdp(rho="0.02")},
            "another mechanism": {"mechanism": "none"}, "after its end": {"time": NOW + 300 * DAY},
            "another table": {"tables": (("people", PEOPLE.digest, ("age",)),)},
        }.get(name, {})  # fmt: skip
        if name == "another city's charter":
            return []
        return [replace(leaf, **swapped)] * {"more than the total": 5, "more than its period": 3}.get(name, 1)

    assert read_notices(*forge(running, lambda leaf: leaf), running.id)
    with pytest.raises(ProofError):
        read_notices(*forge(running, change), running.id)


def test_a_time_that_was_put_back_brings_nothing_back(running, clock):
    """A withdrawn programme, an older charter that left more open, and a series' steps: the log's order tells."""
    release(running)
    clock.now += 3 * DAY
    ended = running.releases()[0].programme
    later = replace(charter_for(running), version=2, issued=clock.now, withdrawn=(bytes.fromhex(ended),))
    running.adopt(signed(later))
    leaves = running.log.leaves()
    (made,) = (leaf for leaf in map(decode_leaf, leaves) if isinstance(leaf, ReleaseLeaf))
    step = StepLeaf(made.release_id, 0, made.time, bytes(32))

    def after(*more: Any) -> list[Any]:
        found = [*leaves, *map(encode_leaf, more)]
        store = MemoryStore()
        store.append({"log": (0, found)})
        return read_notices(found, Log(store, running._key, running.log.origin).checkpoint(), running.id)

    assert len(after(replace(made, time=clock.now - DAY + 1))) == 3  # it may have been on its way
    assert len(after(replace(step, time=clock.now - 1))) == 3
    for late in (made, replace(made, time=clock.now), step, replace(step, time=clock.now)):
        with pytest.raises(ProofError, match="does not cover"):
            after(late)
    with pytest.raises(ProofError, match="never opened"):
        after(replace(step, release_id=bytes(16), time=clock.now - 1))


@pytest.mark.parametrize("kind", ["\ud800", "", " datasov charter v1", "x" * 65, 5])
def test_a_kind_that_is_no_text_is_refused(kind):
    with pytest.raises(VerificationError):
        Signed.from_bytes(json.dumps({"kind": kind, "document": {}, "signatures": {}}).encode())


def test_a_document_that_nests_too_deeply_is_refused_wherever_it_is_written_again():
    depth = sys.getrecursionlimit() // 2
    found = Signed.from_bytes(b'{"document":{"a":' + b"[" * depth + b"]" * depth + b'},"kind":"x","signatures":{}}')

    def deeper(calls: int) -> bytes:
        return deeper(calls - 1) if calls else found.identity

    with pytest.raises(ds.InvalidQueryError, match="too deeply"):
        deeper(depth)


def test_leaves_that_are_not_the_checkpoints_are_refused(running):
    release(running)
    leaves = running.log.leaves()
    for wrong in (leaves[:-1], leaves[1:], [*leaves, leaves[0]], leaves[::-1]):
        with pytest.raises(ProofError, match="checkpoint"):
            read_notices(wrong, running.log.checkpoint(), running.id)


def test_another_process_sees_what_this_one_adopted_and_a_changed_stream_is_not_believed(running):
    other = Governing(running._store, running.id)
    assert other.state() == running._governing.state()
    leaf = decode_leaf(running._store.read("governance")[1])
    assert isinstance(leaf, NoticeLeaf)
    wide = json.loads(leaf.body)
    wide["document"]["total"]["nano"] *= 10
    body = canonical(wide)
    forged = Signed.from_bytes(body)

    class Changed:
        def read(self, stream: str, after: int = 0, limit: int = -1) -> list[bytes]:
            found = list(running._store.read(stream))
            found[1] = encode_leaf(replace(leaf, body=body, identity=forged.identity))
            return found[after:]

    with pytest.raises(SignatureError):
        Governing(Changed(), running.id).state()  # type: ignore[arg-type]


def test_a_signer_needs_no_more_than_a_key_and_the_document():
    key = SigningKey(bytes(32))
    document = {"a": 1}
    made = approval.sign(PROGRAMME, document, key)
    assert approval.signers(approval.signed(PROGRAMME, document, [made])) == {key.public}


def test_a_programme_for_another_place_is_not_approved(city):
    """Claim: a programme fixes where the data is processed. The city's place was fixed when it was founded."""
    for elsewhere in ("JP-13", "US"):
        document = signed(programme_for(city, processing=elsewhere))
        unchanged(city, lambda d=document: city.approve(d), ProgrammeError, "processes in JP-25")
    assert city.approve(signed(programme_for(city, processing="JP"))).programme.processing == "JP"


@pytest.mark.parametrize("trick", ["\n    by: nothing", "\x1b[2J", "\u202e", "\x9b2J", "\u2028", "\r"])
def test_what_signers_read_on_a_terminal_is_what_the_document_says(still, trick):
    """Who drafts a document cannot hide a part of it, nor add lines, from those who sign it."""
    changed = replace(TEMPLATE, aggregates=(Allowed("sum", "km" + trick), Allowed("count", "", ("resident" + trick,))))
    question = {"schema": TRIPS.digest.hex(), "note": "harmless" + trick}
    for honest, found in (
        (programme_for(still), programme_for(still, template=changed)),
        (programme_for(still, template=None, question={"schema": TRIPS.digest.hex()}),
         programme_for(still, template=None, question=question)),
    ):  # fmt: skip
        lines = words.programme(found)
        assert len(lines) == len(words.programme(honest))
        assert all(line.isprintable() for line in lines)
        assert any(f"\\u{ord(trick[0]):04x}" in line or "\\n" in line or "\\r" in line for line in lines)
