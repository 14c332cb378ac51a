"""Cosignatures and the policies that demand them."""

from __future__ import annotations

import base64

import pytest

from datasov.crypto.sign import SigningKey, verify
from datasov.errors import ProofError
from datasov.tlog.cosignature import (
    AHEAD,
    Cosigner,
    Policy,
    any_of,
    attach,
    cosign,
    cosignatures,
    open_cosigned,
    read_policy,
    verify_cosigned,
)
from datasov.tlog.note import key_id, sign_note, signature_line, split_note, vkey
from tests.logs import KEY, ORIGIN, OTHER, log_of

NOW = 1_800_000_000
KEYS = [SigningKey(bytes([n]) * 32) for n in range(10, 15)]
WITNESSES = [Cosigner(f"witness.example/w{n}", key.public) for n, key in enumerate(KEYS)]
NOTE = log_of(5).checkpoint().note
TEXT = split_note(NOTE)[0]


def line(number: int, time: int = NOW, text: str = TEXT) -> bytes:
    return cosign(text, WITNESSES[number].name, KEYS[number], time).encode()


def signed(*numbers: int, time: int = NOW) -> bytes:
    return NOTE + b"".join(line(n, time) for n in numbers)


def test_a_cosignature_is_the_one_of_the_specification():
    """The example of C2SP tlog-cosignature: header, time, then the note's text; the blob is id, time, signature."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    found = cosign(text, "witness.example.com/w1", KEYS[0], 1679315147)
    assert found.startswith("— witness.example.com/w1 ")
    assert found.endswith("\n")
    raw = base64.b64decode(found.split(" ")[2])
    assert len(raw) == 4 + 8 + 64
    assert raw[4:12] == (1679315147).to_bytes(8, "big")
    verify(KEYS[0].public, b"cosignature/v1\ntime 1679315147\n" + text.encode(), raw[12:])
    assert raw[:4] == key_id("witness.example.com/w1", KEYS[0].public, b"\x04")
    assert raw[:4] != key_id("witness.example.com/w1", KEYS[0].public)


def test_a_published_verifier_key_of_a_witness_is_read():
    """Of a witness on the public network, its key id computed by another implementation."""
    text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"
    assert str(Cosigner.parse(text)) == text
    for wrong in (text.replace("da77ade7", "da77ade8"), text.replace("remora", "remorb"), vkey(ORIGIN, KEY.public), ""):
        with pytest.raises(ProofError):
            Cosigner.parse(wrong)


def test_who_cosigned_and_when():
    assert cosignatures(signed(0, 2), WITNESSES) == {KEYS[0].public: NOW, KEYS[2].public: NOW}
    assert cosignatures(NOTE, WITNESSES) == {}
    assert cosignatures(signed(0, 2), WITNESSES[1:2]) == {}, "lines of unknown keys are passed over"
    twice = signed(0, time=NOW - 50) + line(0, NOW) + line(0, NOW - 99)
    assert cosignatures(twice, WITNESSES) == {KEYS[0].public: NOW}, "the latest counts"


def test_every_line_of_a_known_witness_must_verify():
    good = line(1)
    name, encoded = good.decode().rstrip("\n").rsplit(" ", 1)
    raw = base64.b64decode(encoded)
    for wrong in (
        raw[:4] + (NOW + 1).to_bytes(8, "big") + raw[12:], raw[:-1] + bytes([raw[-1] ^ 1]), raw[:-1], raw + b"\x00",
        raw[:4] + (2**63).to_bytes(8, "big") + raw[12:], raw[:4] + b"\x00", raw[:4] + raw[12:],
    ):  # fmt: skip
        bad = f"{name} {base64.b64encode(wrong).decode()}\n".encode()
        with pytest.raises(ProofError):
            cosignatures(signed(0) + bad, WITNESSES)
        assert cosignatures(signed(0) + bad, WITNESSES[:1]) == {KEYS[0].public: NOW}
    other = line(1, text=split_note(log_of(6).checkpoint().note)[0])
    with pytest.raises(ProofError, match="does not verify"):
        cosignatures(signed(0) + other, WITNESSES)


def test_a_time_beyond_63_bits_is_refused_though_it_was_signed():
    message = f"cosignature/v1\ntime {2**63}\n{TEXT}".encode()
    id_ = key_id(WITNESSES[0].name, KEYS[0].public, b"\x04")
    line_ = signature_line(WITNESSES[0].name, id_, (2**63).to_bytes(8, "big") + KEYS[0].sign(message))
    with pytest.raises(ProofError, match="malformed"):
        cosignatures(NOTE + line_.encode(), WITNESSES)


def test_a_log_signature_is_no_cosignature():
    """The same key, name and text, but the signature of a log: another key id, so it is nobody's."""
    note = sign_note(TEXT, WITNESSES[0].name, KEYS[0])
    assert cosignatures(note, WITNESSES) == {}
    raw = split_note(note)[1][0][1]
    id_ = key_id(WITNESSES[0].name, KEYS[0].public, b"\x04")
    forged = signature_line(WITNESSES[0].name, id_, bytes(8) + raw[4:])
    with pytest.raises(ProofError):
        cosignatures(NOTE + forged.encode(), WITNESSES)


@pytest.mark.parametrize(("least", "numbers", "enough"), [
    (1, (), False), (1, (0,), True), (2, (0,), False), (2, (0, 1), True), (2, (0, 1, 2), True), (3, (0, 1), False),
    (2, (0, 0, 0), False), (2, (0, 4), False),
])  # fmt: skip
def test_a_policy_counts_witnesses(least, numbers, enough):
    """Of the first three; the fifth is unknown; a witness that signs thrice is one."""
    policy, note = any_of(least, map(str, WITNESSES[:3])), signed(*numbers)
    if enough:
        assert set(verify_cosigned(note, policy, now=NOW)) == {KEYS[n].public for n in numbers}
        assert open_cosigned(note, ORIGIN, KEY.public, policy, now=NOW).size == 5
    else:
        with pytest.raises(ProofError, match="enough witnesses"):
            verify_cosigned(note, policy, now=NOW)
        with pytest.raises(ProofError, match="enough witnesses"):
            open_cosigned(note, ORIGIN, KEY.public, policy, now=NOW)


def test_one_key_under_two_names_is_one_witness():
    again = Cosigner("another.example", KEYS[0].public)
    with pytest.raises(ProofError, match="twice"):
        Policy(2, (WITNESSES[0], again))
    with pytest.raises(ProofError, match="twice"):
        Policy(1, (Policy(1, (WITNESSES[0],)), Policy(1, (again,))))
    note = signed(0) + cosign(TEXT, "another.example", KEYS[0], NOW).encode()
    assert cosignatures(note, [WITNESSES[0], again]) == {KEYS[0].public: NOW}
    with pytest.raises(ProofError, match="enough"):
        verify_cosigned(note, any_of(2, WITNESSES[:2]), now=NOW)


@pytest.mark.parametrize("least", [0, -1, 3, True, 1.0])
def test_a_policy_that_asks_for_none_or_for_more_than_there_are_is_refused(least):
    with pytest.raises(ProofError, match="at least one and at most all"):
        Policy(least, tuple(WITNESSES[:2]))


def test_a_witness_key_that_is_none_is_refused():
    for public in (bytes(32), b"", b"\x01" + bytes(31), KEYS[0].public + b"\x00"):
        with pytest.raises(ProofError):
            Cosigner("w", public)
    for name in ("", "a b", "a+b", "x" * 256):
        with pytest.raises(ProofError):
            Cosigner(name, KEYS[0].public)


def test_the_log_is_no_witness_of_its_own():
    own = Cosigner("witness.example/own", KEY.public)
    note = NOTE + cosign(TEXT, own.name, KEY, NOW).encode()
    with pytest.raises(ProofError, match="own"):
        open_cosigned(note, ORIGIN, KEY.public, any_of(1, [own]), now=NOW)


def test_the_log_must_have_signed_too():
    policy = any_of(1, WITNESSES)
    lone = TEXT.encode() + b"\n" + line(0)
    assert verify_cosigned(lone, policy, now=NOW)
    with pytest.raises(ProofError, match="not signed by this log"):
        open_cosigned(lone, ORIGIN, KEY.public, policy, now=NOW)
    with pytest.raises(ProofError):
        open_cosigned(signed(0), ORIGIN, OTHER.public, policy, now=NOW)


def test_clocks_that_are_ahead_and_cosignatures_that_are_old():
    policy = any_of(1, WITNESSES)
    assert verify_cosigned(signed(0, time=NOW + AHEAD), policy, now=NOW)
    with pytest.raises(ProofError, match="too old or in the future"):
        verify_cosigned(signed(0, time=NOW + AHEAD + 1), policy, now=NOW)
    assert verify_cosigned(signed(0, time=0), policy, now=NOW), "no age is asked for"
    assert verify_cosigned(signed(0, time=NOW - 60), policy, now=NOW, within=60)
    with pytest.raises(ProofError, match="too old or in the future"):
        verify_cosigned(signed(0, time=NOW - 61), policy, now=NOW, within=60)
    late = signed(0, time=NOW - 61) + line(1)
    assert set(verify_cosigned(late, policy, now=NOW, within=60)) == {KEYS[1].public}, "the others count without it"
    with pytest.raises(ProofError, match="enough"):
        verify_cosigned(late, any_of(2, WITNESSES), now=NOW, within=60)


@pytest.mark.parametrize("time", [-1, 2**63, True, 1.0])
def test_a_time_that_cannot_be_is_not_signed(time):
    with pytest.raises(ProofError, match="clock"):
        cosign(TEXT, "w", KEYS[0], time)


def test_attaching_keeps_the_latest_line_of_each_and_leaves_strangers_out():
    first = attach(NOTE, signed(0, 4, time=NOW - 9), WITNESSES[:3])
    assert split_note(first)[1][0] == split_note(NOTE)[1][0], "the log's own line stays first"
    assert cosignatures(first, WITNESSES) == {KEYS[0].public: NOW - 9}
    second = attach(first, signed(1, 0), WITNESSES[:3])
    assert cosignatures(second, WITNESSES) == {KEYS[0].public: NOW, KEYS[1].public: NOW}
    assert attach(second, signed(0, time=NOW - 99), WITNESSES) == second
    assert attach(second, signed(1, 0), WITNESSES) == second
    for given, why in ((signed(4), "no cosignature"), (NOTE, "no cosignature")):
        with pytest.raises(ProofError, match=why):
            attach(NOTE, given, WITNESSES[:3])
    with pytest.raises(ProofError, match="another checkpoint"):
        attach(NOTE, log_of(6).checkpoint().note, WITNESSES)


def test_a_note_has_no_more_lines_than_a_reader_takes():
    keys = [SigningKey(bytes([n, 7]) * 16) for n in range(64)]
    known = [Cosigner(f"w{n}", key.public) for n, key in enumerate(keys)]
    lines = [cosign(TEXT, w.name, k, NOW).encode() for w, k in zip(known, keys, strict=True)]
    most = attach(NOTE, NOTE + b"".join(lines[:63]), known)
    assert len(cosignatures(most, known)) == 63
    with pytest.raises(ProofError, match="more cosignatures"):
        attach(most, NOTE + lines[63], known)


POLICY = "\n".join([
    "# two of the city's, and anybody from outside", f"log {vkey(ORIGIN, KEY.public)} https://log.example/",
    *(f"witness\tW{n}  {w}" for n, w in enumerate(WITNESSES)), "", "group inside 2 W0 W1 W2",
    "  group outside any W3 W4 ", "group both all inside outside", "quorum both", "",
])  # fmt: skip


@pytest.mark.parametrize(("numbers", "enough"), [
    ((0, 1, 3), True), ((0, 2, 4), True), ((0, 1, 2), False), ((0, 3, 4), False), ((0, 1, 2, 3, 4), True), ((), False),
])  # fmt: skip
def test_a_policy_file_with_groups(numbers, enough):
    logs, policy = read_policy(POLICY)
    assert logs == {ORIGIN: KEY.public}
    assert policy.holds({KEYS[n].public for n in numbers}) is enough


def test_a_quorum_is_a_witness_or_none():
    one = f"witness a {WITNESSES[0]}\n"
    assert read_policy(one + "quorum a")[1] == Policy(1, (WITNESSES[0],))
    assert read_policy(one + "quorum none") == ({}, None)
    assert read_policy(one + "group g 1 a\nquorum g")[1] == Policy(1, (WITNESSES[0],))


@pytest.mark.parametrize("text", [
    "", "quorum a", f"witness a {WITNESSES[0]}", f"witness a {WITNESSES[0]}\nquorum a\nquorum a",
    f"witness a {WITNESSES[0]}\nwitness a {WITNESSES[1]}\nquorum a", f"witness none {WITNESSES[0]}\nquorum none",
    f"witness a {WITNESSES[0]}\nwitness b {Cosigner('other', KEYS[0].public)}\nquorum a",
    f"witness a {WITNESSES[0]}\ngroup g 2 a\nquorum g", f"witness a {WITNESSES[0]}\ngroup g 0 a\nquorum g",
    f"witness a {WITNESSES[0]}\ngroup g 01 a\nquorum g", f"witness a {WITNESSES[0]}\ngroup g any\nquorum g",
    f"witness a {WITNESSES[0]}\ngroup g any a a\nquorum g", f"group g any a\nwitness a {WITNESSES[0]}\nquorum g",
    f"witness a {WITNESSES[0]}\ngroup g any none\nquorum g", f"witness a {vkey(ORIGIN, KEY.public)}\nquorum a",
    f"log {WITNESSES[0]}\nquorum none", f"log {vkey('x', KEY.public)}\nlog {vkey('y', KEY.public)}\nquorum none",
    f"log {vkey('x', KEY.public)}\nlog {vkey('x', KEYS[0].public)}\nquorum none",
    f"witness a {WITNESSES[0]}\r\nquorum a", f"witness a {WITNESSES[0]}\nfoo\nquorum a", "quorum none x",
    f"witness a {WITNESSES[0]}\ngroup g {'9' * 5000} a\nquorum g", "quorum none\nquorum none",
])  # fmt: skip
def test_malformed_policies_are_refused(text):
    with pytest.raises(ProofError):
        read_policy(text)
