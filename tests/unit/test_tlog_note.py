"""Signed notes, checkpoints and proofs: C2SP's forms, read strictly."""

from __future__ import annotations

import base64

import pytest

from datasov.crypto.sign import SigningKey
from datasov.errors import ProofError
from datasov.tlog.note import (
    MAX_NOTE,
    Checkpoint,
    Proof,
    decode_proof,
    encode_proof,
    key_id,
    number,
    open_checkpoint,
    open_note,
    origin_of,
    parse_vkey,
    peek_checkpoint,
    sign_checkpoint,
    sign_note,
    unb64,
    vkey,
)

KEY, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
NAME, ROOT = "example.com/log", b"\x07" * 32

# The example in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()


def test_the_note_and_key_of_the_go_implementation_verify():
    name, public = parse_vkey(GO_VKEY)
    assert (name, key_id(name, public).hex()) == ("PeterNeumann", "c74f20a3")
    assert open_note(GO_NOTE, name, public) == GO_TEXT


def test_every_changed_byte_of_a_note_is_refused():
    name, public = parse_vkey(GO_VKEY)
    for at in range(len(GO_NOTE)):
        changed = bytearray(GO_NOTE)
        changed[at] ^= 1
        with pytest.raises(ProofError):
            open_note(bytes(changed), name, public)


def test_a_checkpoint_is_three_lines_and_a_signature():
    signed = sign_checkpoint(NAME, 5, ROOT, KEY)
    lines = signed.note.decode().split("\n")
    assert lines[:4] == [NAME, "5", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", ""]
    assert lines[4].startswith(f"— {NAME} ")
    assert unb64(lines[4].split(" ")[2])[:4] == key_id(NAME, KEY.public)
    assert lines[5:] == [""]
    assert open_checkpoint(signed.note, NAME, KEY.public) == signed == peek_checkpoint(signed.note)


def test_unknown_signatures_are_passed_over_and_known_ones_all_count():
    note = sign_checkpoint(NAME, 5, ROOT, KEY).note
    text = open_note(note, NAME, KEY.public)
    witness = sign_note(text, "witness.example", OTHER).split(b"\n\n")[1]
    assert open_checkpoint(note + witness, NAME, KEY.public).size == 5
    assert open_checkpoint(note + witness, NAME, KEY.public).note == note + witness
    good = note.split(b"\n\n")[1]
    zeros = base64.b64encode(key_id(NAME, KEY.public) + bytes(64)).decode()
    bad = f"— {NAME} {zeros}\n".encode()
    for lines in (good + bad, bad + good, bad):
        with pytest.raises(ProofError, match="does not verify"):
            open_note(text.encode() + b"\n" + lines, NAME, KEY.public)


@pytest.mark.parametrize(
    ("name", "key"),
    [("example.com/other", KEY), (NAME, OTHER), ("example.com/other", OTHER)],
    ids=["name", "key", "both"],
)
def test_a_checkpoint_under_another_name_or_key_is_refused(name, key):
    with pytest.raises(ProofError):
        open_checkpoint(sign_checkpoint(NAME, 5, ROOT, KEY).note, name, key.public)


def test_a_checkpoint_whose_first_line_is_another_log_is_refused():
    with pytest.raises(ProofError, match="another log"):
        open_checkpoint(sign_note(f"example.com/other\n5\n{'A' * 43}=\n", NAME, KEY), NAME, KEY.public)


def test_the_identity_key_signs_nothing():
    """R = identity, S = 0 satisfies the equation under the identity key on any message."""
    identity = b"\x01" + bytes(31)
    text = f"{NAME}\n5\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"
    raw = key_id(NAME, identity) + identity + bytes(32)
    note = f"{text}\n— {NAME} {base64.b64encode(raw).decode()}\n".encode()
    with pytest.raises(ProofError):
        open_checkpoint(note, NAME, identity)


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}\n5\n", f"{NAME}\n05\n{'A' * 43}=\n", f"{NAME}\n-5\n{'A' * 43}=\n", f"{NAME}\n+5\n{'A' * 43}=\n",
        f"{NAME}\n5 \n{'A' * 43}=\n", f"{NAME}\n٥\n{'A' * 43}=\n", f"{NAME}\n{2**63}\n{'A' * 43}=\n",
        f"{NAME}\n5\n{'A' * 40}\n", f"{NAME}\n5\n{'A' * 42}B=\n", f"{NAME}\n5\n{'A' * 43}\n",
        f"{NAME}\n5\n{'A' * 43}=\n\n",
        f"\n5\n{'A' * 43}=\n",
    ],
)  # fmt: skip
def test_signed_but_malformed_checkpoints_are_refused(text):
    with pytest.raises(ProofError):
        open_checkpoint(sign_note(text, NAME, KEY), NAME, KEY.public)


def test_extension_lines_are_read_over_as_the_format_allows():
    note = sign_note(f"{NAME}\n5\n{'A' * 43}=\nextension\n", NAME, KEY)
    assert open_checkpoint(note, NAME, KEY.public) == Checkpoint(NAME, 5, bytes(32), note)


def test_malformed_notes_are_refused():
    note = sign_checkpoint(NAME, 5, ROOT, KEY).note
    body, signature = note.split(b"\n\n")
    for bad in (
        b"", body, body + b"\n\n", note[:-1], note + b"\n", note.replace(b"\n", b"\r\n"), note + b"text\n",
        note.replace("—".encode(), b"-"), note + b"\xff\n", b"\x00" + note, body + b"\n" + signature,
        body + b"\n\n" + signature * 65, body + b"\n\n" + signature + b"x" * MAX_NOTE, note + b"\xe2\x80\x94 n\n",
        note + b"\xe2\x80\x94 a+b AAAAAAA=\n", note + b"\xe2\x80\x94 name AAAA\n", note.decode(),
    ):  # fmt: skip
        with pytest.raises(ProofError):
            open_note(bad, NAME, KEY.public)


@pytest.mark.parametrize("text", ["a\tb\n", "a\r\n", "a\0\n"])
def test_a_signed_text_with_control_characters_is_refused(text):
    signature = base64.b64encode(key_id(NAME, KEY.public) + KEY.sign(text.encode())).decode()
    with pytest.raises(ProofError, match="not a signed note"):
        open_note(f"{text}\n— {NAME} {signature}\n".encode(), NAME, KEY.public)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u3000b", "a\nb", "a\tb"])
def test_names_that_the_format_forbids_sign_nothing(name):
    with pytest.raises(ProofError):
        sign_note("text\n", name, KEY)
    with pytest.raises(ProofError):
        open_note(GO_NOTE, name, KEY.public)


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "a\r\n"])
def test_texts_that_the_format_forbids_are_not_signed(text):
    with pytest.raises(ProofError):
        sign_note(text, NAME, KEY)


@pytest.mark.parametrize(("size", "root"), [(-1, ROOT), (2**63, ROOT), (1, ROOT[1:])])
def test_a_checkpoint_that_nobody_could_read_is_not_signed(size, root):
    with pytest.raises(ProofError):
        sign_checkpoint(NAME, size, root, KEY)


def test_a_verifier_key_is_read_in_one_spelling_only():
    text = vkey(NAME, KEY.public)
    assert parse_vkey(text) == (NAME, KEY.public)
    name, id_, key = text.split("+", 2)
    for bad in (
        "",
        name,
        f"{name}+{id_}",
        f"{name}+{id_.upper()}+{key}0",
        f"{name}+00000000+{key}",
        f"x{text}",
        text + "\n",
    ):
        with pytest.raises(ProofError):
            parse_vkey(bad)


def test_an_origin_follows_from_the_key():
    assert origin_of(KEY.public) == "datasov/log/" + origin_of(KEY.public)[-32:]
    assert origin_of(KEY.public) != origin_of(OTHER.public)
    assert (
        open_checkpoint(
            sign_checkpoint(origin_of(KEY.public), 0, ROOT, KEY).note, origin_of(KEY.public), KEY.public
        ).size
        == 0
    )


@pytest.mark.parametrize("extra", [None, b"", b"leaf"])
@pytest.mark.parametrize("hashes", [(), (b"\x01" * 32, b"\x02" * 32)])
def test_a_tlog_proof_comes_back(extra, hashes):
    proof = Proof(3, hashes, sign_checkpoint(NAME, 5, ROOT, KEY).note, extra)
    data = encode_proof(proof)
    assert data.startswith(b"c2sp.org/tlog-proof@v1\n")
    assert decode_proof(data) == proof


def test_malformed_tlog_proofs_are_refused():
    data = encode_proof(Proof(3, (b"\x01" * 32,), sign_checkpoint(NAME, 5, ROOT, KEY).note, b"leaf"))
    for bad in (
        b"", data[1:], data.replace(b"@v1", b"@v2"), data.replace(b"index 3", b"index 03"),
        data.replace(b"index 3\n", b""),
        data.replace(b"extra ", b"index "), data.replace(b"index 3", b"Index 3"), data.split(b"\n\n")[0],
        data.replace(b"AQEB", b"AQE", 1), data.replace(b"AQEB", b"AQEBAQEB", 1), b"c2sp.org/tlog-proof@v1\n\n" + data,
        data.replace(b"bGVhZg==", b"bGVhZg="), data.replace(b"bGVhZg==", b"bGVhZh=="), b"\xff" + data,
    ):  # fmt: skip
        with pytest.raises(ProofError):
            decode_proof(bad)


@pytest.mark.parametrize("text", ["", "00", "01", "-1", "+1", "1_0", " 1", "1\n", "٣", "1" * 20, str(2**63)])
def test_numbers_have_one_spelling(text):
    with pytest.raises(ProofError):
        number(text)
    assert number("0") == 0
    assert number(str(2**63 - 1)) == 2**63 - 1
