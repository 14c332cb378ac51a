"""Attacks on enrolment tokens: two for one resident, one for something else, an issuer that marks or links."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from datasov.authority import credential
from datasov.authority.credential import Wanted, accept, enrolment_key, request
from datasov.authority.enrolment import Issuer, Roll
from datasov.crypto import oprf, p256
from datasov.errors import ConsentError, ProofError, VerificationError
from datasov.store.sqlite import SQLiteStore
from tests.helpers import CITY_ID, MemoryStore
from tests.statistical.significance import Share, agrees
from tests.tokens import KEY, OTHER_KEY, TASK, person, vault

OTHER_TASK = bytes(32)
share = Share("tokens")


def key(name):
    return enrolment_key(vault(name), CITY_ID)


def issuer_of(store, *names, private=KEY, batch=1):
    roll = Roll(store)
    roll.enrol([(person(name), key(name).public) for name in names])
    return Issuer(store, roll, private, batch=batch)


def token_of(issuer, name, task=TASK, epoch=0):
    wanted = issuer.wanted(task, epoch)
    return accept(vault(name), wanted, issuer.issue(task, epoch, [request(vault(name), key(name), wanted)])[0])


class Aggregator:
    """What an aggregator does with reports: it redeems, compares the pair, and refuses what it has seen."""

    def __init__(self, issuer):
        self.issuer, self.seen = issuer, set()

    def take(self, token, epoch=0):
        (nullifier,) = self.issuer.redeem(TASK, epoch, [token])
        if nullifier is None or nullifier in self.seen:
            return None
        self.seen.add(nullifier)
        return nullifier


def test_a_sybil_gets_one_token_however_it_asks():
    """One person with two vaults, or a second key, in one batch or two, after a restart, struck and enrolled again."""
    store = MemoryStore()
    issuer = issuer_of(store, "a", batch=8)
    wanted = issuer.wanted(TASK, 0)
    asked = [request(vault(f"a{i}"), key("a"), wanted) for i in range(4)]
    found = issuer.issue(TASK, 0, asked)
    assert [isinstance(f, bytes) for f in found] == [True, False, False, False]
    assert all(isinstance(f, ConsentError) for f in issuer.issue(TASK, 0, asked[1:]))
    roll = Roll(store)
    for renewed in ("b", "c"):
        roll.enrol([(person("a"), key(renewed).public)])
        again = Issuer(store, Roll(store), KEY)
        for name in (renewed, "a1"):
            (refused,) = again.issue(TASK, 0, [request(vault(name), key(renewed), wanted)])
            assert isinstance(refused, ConsentError)
        roll.strike([person("a")])
        roll.enrol([(person("a"), key(renewed).public)])
        assert isinstance(again.issue(TASK, 0, [request(vault("z"), key(renewed), wanted)])[0], ConsentError)
    assert len(roll) == 1


def test_one_signature_cannot_ask_in_anothers_name():
    issuer = issuer_of(MemoryStore(), "a", "b")
    wanted = issuer.wanted(TASK, 0)
    body = credential.cbor.encode({1: 1, 2: key("b").name, 3: wanted.info, 4: oprf.blind(b"x", 5)})
    (found,) = issuer.issue(TASK, 0, [credential.cose.sign1(body, key("a"), credential.REQUEST)])
    assert isinstance(found, VerificationError)
    (found,) = issuer.issue(TASK, 0, [credential.cose.sign1(body, key("b"), "datasov contribution v1")])
    assert isinstance(found, VerificationError)


def test_a_replayed_token_is_known_by_its_nullifier_to_both():
    issuers = [issuer_of(MemoryStore(), "a", "b", private=private) for private in (KEY, OTHER_KEY)]
    both = [Aggregator(issuer) for issuer in issuers]
    tokens = [token_of(issuer, "a") for issuer in issuers]
    for aggregator, token in zip(both, tokens, strict=True):
        assert aggregator.take(token.data) == token.nullifier
        assert aggregator.take(token.data) is None
        assert aggregator.take(token_of(aggregator.issuer, "a").data) is None
        assert aggregator.take(token_of(aggregator.issuer, "b").data)


def test_a_token_is_worth_nothing_elsewhere():
    store = MemoryStore()
    issuer = issuer_of(store, "a")
    other = issuer_of(MemoryStore(), "a", private=OTHER_KEY)
    token = token_of(issuer, "a")
    assert issuer.redeem(TASK, 0, [token.data]) == [token.nullifier]
    assert issuer.redeem(TASK, 1, [token.data]) == [None]
    assert issuer.redeem(OTHER_TASK, 0, [token.data]) == [None]
    assert other.redeem(TASK, 0, [token.data]) == [None]
    assert issuer.nullifier(TASK, 0, token.data) == token.nullifier
    with pytest.raises(VerificationError, match="ask it for one"):
        issuer.nullifier(TASK, 1, token.data)


def test_no_bit_of_a_token_can_be_changed_and_none_is_made_up():
    issuer = issuer_of(MemoryStore(), "a")
    data = token_of(issuer, "a").data
    changed = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(64)]
    made_up = [b"", data[:-1], data + b"\0", bytes(64), b"\xff" * 64, data[:32] + bytes(32), data[32:] + data[:32]]
    assert issuer.redeem(TASK, 0, changed + made_up) == [None] * (64 + len(made_up))


def test_an_issuer_that_marks_somebody_with_a_key_of_their_own_is_found_out():
    """The key is the task's, the same for everybody: an answer under another fails its proof, alone or in a batch."""
    issuer = issuer_of(MemoryStore(), "a", "b")
    wanted = issuer.wanted(TASK, 0)
    asked = [request(vault(name), key(name), wanted) for name in "ab"]
    blinded = [credential.read_request(r, wanted)[1] for r in asked]
    marking = oprf.PrivateKey.derive(bytes(32), b"for a alone").under(wanted.info)
    honest = KEY.under(wanted.info)
    with pytest.raises(ProofError, match="published"):
        accept(vault("a"), wanted, credential.answers(blinded[:1], marking.evaluate(blinded[:1]))[0])
    mixed = oprf.Evaluation(
        (marking.evaluate(blinded[:1]).elements[0], honest.evaluate(blinded[1:]).elements[0]),
        honest.evaluate(blinded).proof,
    )
    for name, answer in zip("ab", credential.answers(blinded, mixed), strict=True):
        with pytest.raises(ProofError, match="published"):
            accept(vault(name), wanted, answer)
    good = honest.evaluate(blinded)
    for name, answer in zip("ab", credential.answers(blinded, good), strict=True):
        assert accept(vault(name), wanted, answer)


def test_an_issuer_cannot_mark_by_another_epoch_task_or_persons_element():
    issuer = issuer_of(MemoryStore(), "a", "b")
    wanted = issuer.wanted(TASK, 0)
    element = credential.read_request(request(vault("a"), key("a"), wanted), wanted)[1]
    for other in (issuer.wanted(TASK, 1), issuer.wanted(OTHER_TASK, 0)):
        answer = credential.answers([element], KEY.under(other.info).evaluate([element]))[0]
        with pytest.raises(ProofError):
            accept(vault("a"), wanted, answer)
    for_b = issuer.issue(TASK, 0, [request(vault("b"), key("b"), wanted)])[0]
    with pytest.raises(ProofError, match="not to this request"):
        accept(vault("a"), wanted, for_b)


def test_every_bit_of_an_answer_counts():
    issuer = issuer_of(MemoryStore(), "a")
    wanted = issuer.wanted(TASK, 0)
    (answer,) = issuer.issue(TASK, 0, [request(vault("a"), key("a"), wanted)])
    accept(vault("a"), wanted, answer)
    for i in range(len(answer)):
        with pytest.raises(VerificationError):
            accept(vault("a"), wanted, answer[:i] + bytes([answer[i] ^ 1 << i % 8]) + answer[i + 1 :])
    for cut in (b"", answer[:-1], answer + b"\0", bytes(10_000)):
        with pytest.raises(VerificationError):
            accept(vault("a"), wanted, cut)


class Crash(Exception):
    pass


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_issuing_gives_nobody_two_tokens_and_takes_nobodys(tmp_path, after):
    """Before the record nothing was computed; after it the same request is answered, and another one is not."""

    class Crashing:
        def __init__(self, store):
            self.store, self.read = store, store.read

        def append(self, batch):
            if after:
                self.store.append(batch)
            raise Crash

    store = SQLiteStore(tmp_path / "issuer.sqlite", create=True, key=bytes(32))
    roll = Roll(store)
    roll.enrol([(person("a"), key("a").public)])
    wanted = Wanted(KEY.public, TASK, 0)
    first, second = (request(vault(name), key("a"), wanted) for name in ("a", "a2"))
    with pytest.raises(Crash):
        Issuer(Crashing(store), roll, KEY).issue(TASK, 0, [first])
    store.close()
    again = SQLiteStore(tmp_path / "issuer.sqlite", key=bytes(32))
    issuer = Issuer(again, Roll(again), KEY)
    if after:
        assert isinstance(issuer.issue(TASK, 0, [second])[0], ConsentError)
    (answer,) = issuer.issue(TASK, 0, [first])
    assert accept(vault("a"), wanted, answer)
    assert isinstance(issuer.issue(TASK, 0, [second])[0], ConsentError)


def test_an_issuer_that_computes_before_it_records_would_lose_count(monkeypatch):
    """Nothing is evaluated while the record is not durable."""
    store = MemoryStore()
    issuer = issuer_of(store, "a")
    wanted, lengths = issuer.wanted(TASK, 0), []
    evaluate = oprf.Evaluator.evaluate
    monkeypatch.setattr(
        oprf.Evaluator, "evaluate",
        lambda *a, **k: (lengths.append(store.length(f"issued/{wanted.info.hex()}")), evaluate(*a, **k))[1],
    )  # fmt: skip
    issuer.issue(TASK, 0, [request(vault("a"), key("a"), wanted)])
    assert lengths == [1]


def test_what_the_issuer_sees_when_it_issues_is_independent_of_what_it_is_shown():
    """Blinded elements of one input under fresh blinds are uniform: any two inputs give the same distribution.

    The first bits of what is seen are counted. That every element can belong to every token is shown below.
    """
    n = 1200
    for data in (b"one input", b"another"):
        seen = [oprf.blind(data, p256.random_scalar()) for _ in range(n)]
        assert agrees([e[1] >> 3 for e in seen], dict.fromkeys(range(32), 1 / 32)) > share.take()
        assert agrees([e[0] for e in seen], {2: 1 / 2, 3: 1 / 2}) > share.take()


def test_derived_blinds_leave_no_link_either():
    """As above, with the device's own derivation: element, input and output of many residents, bit by bit."""
    n, pairs = 1500, []
    for i in range(n):
        data, _, element = credential._blinded(vault(f"r{i}"), Wanted(KEY.public, TASK, 0))
        pairs.append((element, data))
    joint = [(e[1] >> 6, d[0] >> 6) for e, d in pairs]
    assert agrees(joint, dict.fromkeys(itertools.product(range(4), repeat=2), 1 / 16)) > share.take()
    bits = np.array([[np.unpackbits(np.frombuffer(part, dtype=np.uint8)) for part in (e[1:], d)] for e, d in pairs])
    equal = (bits[:, 0] == bits[:, 1]).ravel().tolist()
    assert agrees(equal, {True: 0.5, False: 0.5}) > share.take()


def test_every_element_that_was_seen_can_belong_to_every_token():
    """A scalar joins each issuance to either token: the issuer's view fits both ways, whatever it computes."""
    wanted = Wanted(KEY.public, TASK, 0)
    under = KEY.under(wanted.info)
    # points of known logarithms in place of hashed ones, so that the joining scalar can be computed
    scalars, logs = ([p256.random_scalar() for _ in "ab"] for _ in range(2))
    points = [p256.Scalar(log).base for log in logs]
    seen = [p256.Scalar(s).times(point) for s, point in zip(scalars, points, strict=True)]
    answers = [p256.decoded(under.evaluate([element.encoded()]).elements[0]) for element in seen]
    shown = [p256.Scalar(p256.inverse(s)).times(a) for s, a in zip(scalars, answers, strict=True)]
    for i, j in itertools.product(range(2), repeat=2):
        joining = scalars[i] * logs[i] * p256.inverse(logs[j]) % p256.ORDER
        assert p256.Scalar(joining).times(points[j]) == seen[i]
        assert p256.Scalar(p256.inverse(joining)).times(answers[i]) == shown[j]
