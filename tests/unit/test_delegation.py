"""The form of a delegation, and what stands in one, apart from chains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datasov.authority import delegation, token
from datasov.errors import ConsentError, SignatureError, VerificationError
from datasov.model.delegation import Delegated, Delegation, check_losses, check_narrower
from datasov.model.privacy import MAX_NANO, Loss
from datasov.wire import cbor, cose
from tests.delegations import KEYS, claims_under, link, secret, signed
from tests.helpers import NOW

ROOT = link()
TOKEN = signed([ROOT])[0]
FIELDS = cbor.decode(cose.peek1(TOKEN))


def forged(fields: object, key=KEYS[0]) -> bytes:
    """Whatever a delegator might sign."""
    return cose.sign1(cbor.encode(fields), key, delegation.KIND)


def test_what_is_issued_is_read_and_has_one_identity():
    found = delegation.read(TOKEN)
    assert found == delegation.issue(ROOT, KEYS[0])
    assert found.digest == delegation.identity(TOKEN)
    assert found.digest != delegation.issue(replace(ROOT, token_id=b"\x01" * 16), KEYS[0]).digest


@pytest.mark.parametrize("label", range(1, 20))
def test_a_field_is_neither_left_out_nor_mistyped(label):
    for wrong in (None, True, 1.5 if label == 0 else "", [], {}, -1, b"", "\x00", [""], ["b", "a"], "x" * 300, 2**63):
        if wrong == FIELDS[label] or (label, wrong) in [(9, []), (13, ""), (19, b"")]:
            continue
        with pytest.raises((VerificationError, ConsentError)):
            delegation.read(forged({**FIELDS, label: wrong}))
    with pytest.raises(VerificationError):
        delegation.read(forged({k: v for k, v in FIELDS.items() if k != label}))


@pytest.mark.parametrize("wrong", [
    {20: 0}, {0: 0}, {"x": 1}, {7: []}, {7: ["health", "health"]}, {7: ["mobility", "health"]}, {7: ["no name"]},
    {8: []}, {8: [["trips", []]]}, {8: [["trips", ["km", "district"]]]}, {8: [["trips", ["km"]], ["trips", ["day"]]]},
    {8: [["trips", ["km"]], ["people", ["age"]]]}, {8: [["trips"]]}, {8: [["_x", ["km"]]]},
    {9: ["visits"]}, {9: ["visits.reason", "people.age"]}, {9: [".x"]}, {9: ["a.b.c"]},
    {10: []}, {10: ["b", "a"]}, {10: ["x" * 129]}, {5: "friend"}, {18: 4}, {18: -1}, {19: bytes(31)},
    {4: bytes(15)}, {1: bytes(32)}, {2: bytes(32)}, {3: bytes(32)}, {6: "lake"}, {14: -1}, {17: 2**40},
])  # fmt: skip
def test_what_is_malformed_is_refused(wrong):
    with pytest.raises((VerificationError, ConsentError)):
        delegation.read(forged({**FIELDS, **wrong}))


@pytest.mark.parametrize("changed", [
    {"not_before": NOW - 1001}, {"expires": NOW - 1000}, {"expires": ROOT.handover + 1}, {"special": ("trips.day",)},
    {"kind": "carer"}, {"delegate": KEYS[0].public}, {"subject": KEYS[3].public}, {"parent": bytes(32)},
    {"purposes": (" a",)}, {"jurisdiction": "jp"}, {"processing": "J"}, {"audience": "+"},
])  # fmt: skip
def test_what_contradicts_itself_is_refused(changed):
    with pytest.raises(ConsentError):
        delegation.issue(replace(ROOT, **changed), KEYS[0])


def test_only_the_delegator_issues():
    with pytest.raises(ConsentError, match="own delegator"):
        delegation.issue(ROOT, KEYS[1])
    with pytest.raises(SignatureError):
        delegation.read(forged(FIELDS, KEYS[1]))


@pytest.mark.parametrize("changed", [
    {"domains": ["health"]}, {"loss": Loss(0)}, {"loss": Loss(MAX_NANO + 1)}, {"depth": True}, {"token_id": bytes(17)},
    {"columns": ("trips.km", "trips.district")}, {"domains": ("mobility", "health")}, {"kind": "friend"},
])  # fmt: skip
def test_values_of_other_types_are_not_written(changed):
    with pytest.raises(VerificationError):
        delegation.issue(replace(ROOT, **changed), KEYS[0])


def test_a_delegation_has_at_most_64_kib():
    columns = tuple(sorted(f"t{t:02}.c{c:058}" for t in range(64) for c in range(20)))
    with pytest.raises(ConsentError, match="64 KiB"):
        delegation.issue(replace(ROOT, columns=columns, special=()), KEYS[0])
    for wrong in (bytes(delegation.MAX_TOKEN + 1), b"", "text", None, TOKEN + b"x", TOKEN[:-1]):
        with pytest.raises(VerificationError):
            delegation.read(wrong)


def test_a_consent_travels_with_its_chain_and_comes_back():
    chain = signed([ROOT, link(ROOT)])
    claims = replace(claims_under(link(ROOT)), parent=delegation.identity(chain[1]))
    consent = replace(token.issue(claims, secret(claims.issuer)), chain=chain)
    data = delegation.bundle(consent)
    assert delegation.unbundle(data) == consent
    assert delegation.unbundle(consent) == consent
    bare = replace(consent, chain=())
    assert delegation.bundle(bare) == consent.token
    assert delegation.unbundle(consent.token) == bare
    assert delegation.verified(consent, NOW) == tuple(map(delegation.read, chain))
    for wrong in (
        cbor.encode([consent.token]), cbor.encode([consent.token, []]), cbor.encode([consent.token, list(chain * 3)]),
        cbor.encode([consent.token, list(chain), 1]), cbor.encode([consent.token, [1]]), data + b"x", b"\x82", b"",
        bytes(delegation.MAX_BUNDLE + 1), None,
    ):  # fmt: skip
        with pytest.raises(VerificationError):
            delegation.unbundle(wrong)


def test_the_place_of_processing_is_the_jurisdiction_where_none_is_named():
    above = link(jurisdiction="JP-10")
    check_narrower(link(above, processing="JP-10"), above)
    with pytest.raises(ConsentError, match="processing"):
        check_narrower(link(above, processing="JP"), above)
    abroad = link(jurisdiction="JP", processing="NL")
    with pytest.raises(ConsentError, match="processing"):
        check_narrower(link(abroad, processing=""), abroad)


def test_the_sum_counts_the_largest_consent_of_each_account():
    chain = (delegation.read(signed([link(loss=Loss(100, delta=5))])[0]),)

    def reserve(account: str, loss: Loss, **held: Loss) -> None:
        check_losses(chain, account, loss, {chain[0].digest: held, bytes(32): {"z": Loss(10**9)}})

    reserve("a", Loss(100, delta=5))
    reserve("a", Loss(60), a=Loss(100))
    reserve("b", Loss(40), a=Loss(60, delta=5))
    for account, loss, held in [
        ("b", Loss(41), {"a": Loss(60)}), ("b", Loss(1, delta=1), {"a": Loss(1, delta=5)}), ("a", Loss(1, "pure"), {}),
        ("a", Loss(1, delta=3), {"a": Loss(60), "b": Loss(40, delta=3)}), ("a", Loss(101), {"a": Loss(50)}),
    ]:  # fmt: skip
        with pytest.raises(ConsentError):
            reserve(account, loss, **held)


def test_a_chain_names_its_last_link_only_in_its_own_order():
    chain = [ROOT, link(ROOT), link(link(ROOT)), link(link(link(ROOT)))]
    tokens = signed(chain)
    assert [d.claims.depth for d in delegation.read_chain(tokens, NOW)] == [3, 2, 1, 0]
    with pytest.raises(ConsentError, match="one to four"):
        delegation.read_chain([*tokens, tokens[0]], NOW)
    with pytest.raises(ConsentError, match="one to four"):
        delegation.read_chain(tokens[0], NOW)
    with pytest.raises(VerificationError):
        signed([*chain, replace(chain[-1], delegator=KEYS[4].public, delegate=KEYS[5].public, depth=-1)])
    assert isinstance(delegation.read(tokens[3]), Delegated)
    assert isinstance(delegation.read(tokens[3]).claims, Delegation)
