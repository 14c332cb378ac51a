"""Who is enrolled, what is issued to them once, and what they show: docs/spec/enrolment.md."""

from __future__ import annotations

import hashlib
import threading

import pytest

from datasov.authority import credential, enrolment
from datasov.authority.credential import Wanted, accept, enrolment_key, request
from datasov.authority.enrolment import Issuer, Roll
from datasov.crypto import oprf
from datasov.errors import ConflictError, ConsentError, InvalidDataError, InvalidQueryError, SignatureError, StoreError
from datasov.store.sqlite import SQLiteStore
from tests.helpers import CITY_ID
from tests.tokens import KEY, TASK, person, vault


@pytest.fixture
def store(tmp_path):
    return SQLiteStore(tmp_path / "issuer.sqlite", create=True, key=bytes(32))


def key(name):
    return enrolment_key(vault(name), CITY_ID)


def roll_of(store, *names):
    roll = Roll(store)
    roll.enrol([(person(name), key(name).public) for name in names])
    return roll


def test_a_token_is_issued_accepted_and_redeemed(store):
    issuer = Issuer(store, roll_of(store, "a", "b"), KEY)
    wanted = issuer.wanted(TASK, 3)
    assert wanted == Wanted(KEY.public, TASK, 3)
    answers = issuer.issue(TASK, 3, [request(vault(name), key(name), wanted) for name in "ab"])
    a, b = (accept(vault(name), wanted, answer) for name, answer in zip("ab", answers, strict=True))
    assert issuer.redeem(TASK, 3, [a.data, b.data]) == [a.nullifier, b.nullifier]
    assert a.nullifier != b.nullifier
    assert "data" not in repr(a)
    assert a.data.hex() not in repr(a)


@pytest.mark.parametrize("batch", [2, 64])
def test_answers_under_one_proof(store, batch):
    names = "abcde"
    issuer = Issuer(store, roll_of(store, *names), KEY, batch=batch)
    wanted = issuer.wanted(TASK, 0)
    answers = issuer.issue(TASK, 0, [request(vault(name), key(name), wanted) for name in names])
    tokens = [accept(vault(name), wanted, answer) for name, answer in zip(names, answers, strict=True)]
    assert issuer.redeem(TASK, 0, [t.data for t in tokens]) == [t.nullifier for t in tokens]
    assert max(map(len, answers)) < credential.MAX_ANSWER


def test_the_largest_answer_is_read(store):
    names = [f"n{i}" for i in range(64)]
    issuer = Issuer(store, roll_of(store, *names), KEY, batch=64)
    wanted = issuer.wanted(TASK, 0)
    answers = issuer.issue(TASK, 0, [request(vault(name), key(name), wanted) for name in names])
    assert len({answer[: 2 * 64 * 35] for answer in answers}) == 1
    token = accept(vault("n63"), wanted, answers[63])
    assert issuer.redeem(TASK, 0, [token.data]) == [token.nullifier]


def test_asking_again_is_the_same_request_and_gives_the_same_token(store):
    issuer = Issuer(store, roll_of(store, "a"), KEY)
    wanted = issuer.wanted(TASK, 0)
    asked = request(vault("a"), key("a"), wanted)
    assert asked == request(vault("a"), key("a"), wanted)
    tokens = {accept(vault("a"), wanted, issuer.issue(TASK, 0, [asked, asked])[i]).data for i in (0, 1)}
    again = Issuer(store, Roll(store), KEY)
    assert tokens == {accept(vault("a"), wanted, again.issue(TASK, 0, [asked])[0]).data}


def test_each_request_stands_alone(store):
    issuer = Issuer(store, roll_of(store, "a"), KEY)
    wanted = issuer.wanted(TASK, 0)
    good, stranger = request(vault("a"), key("a"), wanted), request(vault("x"), key("x"), wanted)
    other_epoch = request(vault("a"), key("a"), issuer.wanted(TASK, 1))
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    found = issuer.issue(TASK, 0, [stranger, b"", flipped, good, other_epoch, good[:-1], b"\0" * 600])
    assert [isinstance(f, bytes) for f in found] == [False, False, False, True, False, False, False]
    assert isinstance(found[0], ConsentError)
    assert isinstance(found[2], SignatureError)
    assert "another issuer, task or epoch" in str(found[4])
    assert accept(vault("a"), wanted, found[3])


def test_a_request_with_a_point_that_is_none_is_refused_and_not_recorded(store):
    issuer = Issuer(store, roll_of(store, "a"), KEY)
    wanted = issuer.wanted(TASK, 0)
    for element in (bytes(33), b"\x02" + b"\xff" * 32, b"\x04" + bytes(32)):
        body = credential.cbor.encode({1: 1, 2: key("a").name, 3: wanted.info, 4: element})
        (found,) = issuer.issue(TASK, 0, [credential.cose.sign1(body, key("a"), credential.REQUEST)])
        assert "not a point" in str(found)
    assert store.length(f"issued/{wanted.info.hex()}") == 0
    assert isinstance(issuer.issue(TASK, 0, [request(vault("a"), key("a"), wanted)])[0], bytes)


def test_the_bytes_are_those_of_the_specification(store):
    """Written by hand from docs/spec/enrolment.md."""
    derive, wanted = vault("a"), Wanted(KEY.public, TASK, 7)
    info = hashlib.sha256(b"datasov enrolment v1" + KEY.public + TASK + (7).to_bytes(8, "big")).digest()
    assert wanted.info == info
    secret = derive(b"datasov credential v1 " + info)
    data = credential.hkdf(secret, salt=b"", info=b"input")
    scalar = 1 + int.from_bytes(credential.hkdf(secret, salt=b"", info=b"blind", length=48), "big") % (
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 - 1
    )
    element = oprf.blind(data, scalar)
    payload = b"\xa4\x01\x01\x02\x58\x20" + key("a").public + b"\x03\x58\x20" + info + b"\x04\x58\x21" + element
    asked = request(derive, key("a"), wanted)
    assert asked[6 : 6 + len(payload) + 2] == b"\x58" + bytes([len(payload)]) + payload
    (answer,) = Issuer(store, roll_of(store, "a"), KEY).issue(TASK, 7, [asked])
    assert answer[:43] == b"\xa5\x01\x01\x02\x81\x58\x21" + element + b"\x03\x81\x58"
    token = accept(derive, wanted, answer)
    assert token.data[:32] == data
    assert token.nullifier == hashlib.sha256(b"datasov nullifier v1" + info + data).digest()


def test_a_place_on_the_roll_is_a_persons_for_ever(store):
    roll = roll_of(store, "a", "b", "c")
    assert [roll.place(key(name).public) for name in "abc"] == [0, 1, 2]
    roll.enrol([(person("a"), key("a2").public)])
    assert [roll.place(key(name).public) for name in ("a", "a2")] == [None, 0]
    roll.strike([person("a"), person("c")])
    assert [roll.place(key(name).public) for name in ("a", "a2", "b", "c")] == [None, None, 1, None]
    roll.enrol([(person("d"), key("a2").public)])
    assert roll.place(key("a2").public) == 3, "a key of who was taken off is free again"
    roll.enrol([(person("a"), key("a").public)])
    again = Roll(store)
    for read in (roll, again):
        assert [read.place(key(name).public) for name in ("a", "a2", "b", "c", "d")] == [0, 3, 1, None, None]
        assert len(read) == 4


def test_the_roll_refuses_what_would_be_two_people_in_one_or_one_in_two(store):
    roll = roll_of(store, "a", "b")
    for people in (
        [(person("c"), key("a").public)], [(person("c"), key("c").public), (person("d"), key("c").public)],
        [(person("c"), key("c").public), (person("c"), key("d").public)], [(person("c")[:31], key("c").public)],
        [(person("a"), key("b").public)],
    ):  # fmt: skip
        with pytest.raises(InvalidDataError):
            roll.enrol(people)
    with pytest.raises(SignatureError):
        roll.enrol([(person("c"), bytes(32))])
    with pytest.raises(InvalidDataError):
        roll.strike([person("c")])
    assert len(roll) == 2
    assert store.length(enrolment.ROLL) == 1


def test_a_key_of_a_struck_person_signs_no_request(store):
    roll = roll_of(store, "a")
    issuer = Issuer(store, roll, KEY)
    asked = request(vault("a"), key("a"), issuer.wanted(TASK, 0))
    Roll(store).strike([person("a")])
    assert isinstance(issuer.issue(TASK, 0, [asked])[0], ConsentError)
    Roll(store).enrol([(person("a"), key("a").public)])
    assert isinstance(issuer.issue(TASK, 0, [asked])[0], bytes)


def test_many_epochs_are_forgotten_and_read_again(store):
    issuer = Issuer(store, roll_of(store, "a"), KEY)
    asked = {e: request(vault("a"), key("a"), issuer.wanted(TASK, e)) for e in range(7)}
    tokens = {e: accept(vault("a"), issuer.wanted(TASK, e), issuer.issue(TASK, e, [asked[e]])[0]) for e in asked}
    assert len(issuer._issued) <= 4
    for epoch in asked:
        (found,) = issuer.issue(TASK, epoch, [request(vault("b"), key("a"), issuer.wanted(TASK, epoch))])
        assert isinstance(found, ConsentError)
        assert issuer.redeem(TASK, epoch, [tokens[epoch].data]) == [tokens[epoch].nullifier]


def test_threads_and_processes_issue_one_token_each(store, tmp_path):
    """Two issuers over two connections, each asked by eight threads with a request of its own for the same person."""
    roll_of(store, "a")
    other = SQLiteStore(tmp_path / "issuer.sqlite", key=bytes(32))
    issuers = [Issuer(s, Roll(s), KEY) for s in (store, other)]
    wanted, granted = issuers[0].wanted(TASK, 0), []
    requests = [request(vault(f"v{i}"), key("a"), wanted) for i in range(8)]

    def ask(i):
        (found,) = issuers[i % 2].issue(TASK, 0, [requests[i]])
        if isinstance(found, bytes):
            granted.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1
    assert store.length(f"issued/{wanted.info.hex()}") == 1


def test_a_store_that_others_always_change_is_an_error(store):
    class Busy:
        read = staticmethod(store.read)

        def append(self, batch):
            raise ConflictError("moved on")

    roll = roll_of(store, "a")
    issuer = Issuer(Busy(), roll, KEY)
    with pytest.raises(StoreError, match="try again"):
        issuer.issue(TASK, 0, [request(vault("a"), key("a"), issuer.wanted(TASK, 0))])
    with pytest.raises(StoreError, match="try again"):
        Roll(Busy()).enrol([(person("b"), key("b").public)])


def test_records_of_another_version_are_refused(store):
    issuer = Issuer(store, roll_of(store, "a"), KEY)
    wanted = issuer.wanted(TASK, 0)
    store.append({f"issued/{wanted.info.hex()}": (0, [bytes(35)])})
    with pytest.raises(StoreError, match="update"):
        issuer.issue(TASK, 0, [request(vault("a"), key("a"), wanted)])
    store.append({enrolment.ROLL: (1, [credential.cbor.encode(["x"])])})
    with pytest.raises(StoreError, match="update"):
        Roll(store)


def test_what_a_token_is_for_has_its_sizes(store):
    for parts in (
        (KEY.public[:-1], TASK, 0),
        (KEY.public, TASK[:-1], 0),
        (KEY.public, TASK, -1),
        (KEY.public, TASK, 2**63),
    ):
        with pytest.raises(InvalidQueryError):
            Wanted(*parts)
    for batch in (0, 65):
        with pytest.raises(InvalidDataError):
            Issuer(store, Roll(store), KEY, batch=batch)
