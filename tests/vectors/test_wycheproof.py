"""Wycheproof vectors for the primitives as the vault uses them: AES-GCM with 96-bit nonces, HKDF-SHA-256."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from datasov.crypto import aead, kdf
from datasov.errors import DecryptionError
from tests.paths import vectors


def _groups(name: str) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads(vectors("wycheproof", name).read_text())["testGroups"]
    return groups


def test_aes_gcm() -> None:
    valid = invalid = 0
    for group in _groups("aes_gcm_test.json"):
        if (group["ivSize"], group["tagSize"]) != (96, 128):
            continue
        for case in group["tests"]:
            key, nonce, aad, plain, sealed, tag = (
                bytes.fromhex(case[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            if case["result"] == "valid":
                assert aead.encrypt(key, nonce, plain, aad) == sealed + tag, case["tcId"]
                assert aead.decrypt(key, nonce, sealed + tag, aad) == plain, case["tcId"]
                valid += 1
            else:
                with pytest.raises(DecryptionError):
                    aead.decrypt(key, nonce, sealed + tag, aad)
                invalid += 1
    assert (valid, invalid) == (116, 81)


def test_aes_gcm_as_streams_and_logs_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which a vault seals and opens, with the vector's nonce in place of the chunk's."""
    checked = 0
    for group in _groups("aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        for case in group["tests"]:
            key, nonce, aad, plain, sealed, tag = (
                bytes.fromhex(case[part]) for part in ("key", "iv", "aad", "msg", "ct", "tag")
            )
            monkeypatch.setattr(aead, "_nonce", lambda counter, last, nonce=nonce: nonce)
            monkeypatch.setattr(kdf, "derive_committed", lambda parent, salt, info, key=key: (key, b"same"))
            out, whole = bytearray(len(sealed)), sealed + tag
            if case["result"] == "valid":
                assert aead.encryptor(key)(nonce, plain, aad) == whole, case["tcId"]
                assert aead.encrypt_stream(key, plain, aad) == whole, case["tcId"]
                assert aead.decrypt_stream(key, whole, aad) == plain, case["tcId"]
                assert aead.open_short(b"", b"", b"", b"same", whole, aad, nonce) == plain, case["tcId"]
                aead.decrypt_stream_from(key, _reader(whole), len(whole), aad, memoryview(out))
                assert out == plain, case["tcId"]
            else:
                with pytest.raises(DecryptionError):
                    aead.decrypt_stream(key, whole, aad)
                with pytest.raises(DecryptionError):
                    aead.open_short(b"", b"", b"", b"same", whole, aad, nonce)
                with pytest.raises(DecryptionError):
                    aead.decrypt_stream_from(key, _reader(whole), len(whole), aad, memoryview(out))
            checked += 1
    assert checked == 66


def _reader(sealed: bytes) -> Callable[[memoryview, int], None]:
    def read(buffer: memoryview, offset: int) -> None:
        buffer[:] = sealed[offset : offset + len(buffer)]

    return read


def test_hkdf() -> None:
    valid = invalid = 0
    for group in _groups("hkdf_sha256_test.json"):
        for case in group["tests"]:
            key, salt, info = (bytes.fromhex(case[part]) for part in ("ikm", "salt", "info"))
            if case["result"] == "valid":
                derived = kdf.hkdf(key, salt=salt, info=info, length=case["size"])
                assert derived == bytes.fromhex(case["okm"]), case["tcId"]
                valid += 1
            else:
                with pytest.raises(ValueError, match="derive"):
                    kdf.hkdf(key, salt=salt, info=info, length=case["size"])
                invalid += 1
    assert (valid, invalid) == (83, 3)
