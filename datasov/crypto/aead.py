"""AES-256-GCM: one message, and long messages in chunks (STREAM; Hoang, Reyhanitabar, Rogaway and Vizár 2015)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from datasov.crypto import kdf
from datasov.errors import DecryptionError

TAG = 16
CHUNK = 1 << 20
"""Plaintext bytes in a chunk of a stream."""

_kept: list[bytearray] = []
"""Buffers of ciphertext, to be used again: to allocate one costs as much as to decrypt what is in it."""

_OPAQUE = "the data cannot be decrypted: a wrong key, or damaged or foreign bytes"


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Ciphertext and tag under a 12-byte nonce that is never used twice with this key."""
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def encryptor(key: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
    """:func:`encrypt` under one key, which is set up once: (nonce, plaintext, AAD) to ciphertext and tag."""
    return AESGCM(key).encrypt


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes | memoryview, aad: bytes) -> bytes:
    """The plaintext; DecryptionError where anything differs."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise DecryptionError(_OPAQUE) from None


def _nonce(counter: int, last: bool) -> bytes:
    return struct.pack(">7xIB", counter, last)


ONE_CHUNK = _nonce(0, True)
"""The nonce of a stream's only chunk."""


def sealed_length(length: int) -> int:
    """Bytes of the stream that holds `length` bytes of plaintext."""
    return length + TAG * max(1, -(-length // CHUNK))


def encrypt_stream(key: bytes, plaintext: bytes | memoryview, aad: bytes) -> bytearray:
    """Chunks of at most 1 MiB, each with its tag; nonce = counter || last-chunk flag; every chunk binds the AAD.

    The key must be fresh: nonces start at zero.
    """
    cipher, view = AESGCM(key), memoryview(plaintext)
    chunks = max(1, -(-len(view) // CHUNK))
    out = bytearray(sealed_length(len(view)))
    target, at = memoryview(out), 0
    for i in range(chunks):
        piece = view[i * CHUNK : (i + 1) * CHUNK]
        end = at + len(piece) + TAG
        cipher.encrypt_into(_nonce(i, i == chunks - 1), piece, aad, target[at:end])
        at = end
    return out


def decrypt_stream(key: bytes, sealed: bytes | memoryview, aad: bytes) -> bytearray:
    """The plaintext of a stream; DecryptionError where a chunk is changed, missing, added or out of place."""
    cipher, view = AESGCM(key), memoryview(sealed)
    step = CHUNK + TAG
    chunks = max(1, -(-len(view) // step))
    length = len(view) - TAG * chunks
    if length < 0 or sealed_length(length) != len(view):
        raise DecryptionError(_OPAQUE)
    out = bytearray(length)
    target = memoryview(out)
    try:
        for i in range(chunks):
            piece = view[i * step : (i + 1) * step]
            at = i * CHUNK
            cipher.decrypt_into(_nonce(i, i == chunks - 1), piece, aad, target[at : at + len(piece) - TAG])
    except (InvalidTag, ValueError):
        raise DecryptionError(_OPAQUE) from None
    return out


def open_short(
    parent: bytes, salt: bytes, info: bytes, commitment: bytes, sealed: bytes | memoryview, aad: bytes, nonce: bytes
) -> bytes:
    """Derive a key as :func:`datasov.crypto.kdf.derive_committed`, compare its commitment, and decrypt one message.

    All in one call, for who opens very many short ones. A stream of one chunk has the nonce ONE_CHUNK.

    Raises:
        DecryptionError: the commitment is another, or anything differs.
    """
    key, found = kdf.derive_committed(parent, salt=salt, info=info)
    if not kdf.same(found, commitment):
        raise DecryptionError(_OPAQUE)
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except (InvalidTag, ValueError):
        raise DecryptionError(_OPAQUE) from None


def decrypt_stream_from(
    key: bytes, read: Callable[[memoryview, int], None], sealed_size: int, aad: bytes, out: memoryview
) -> None:
    """Decrypt a stream of `sealed_size` bytes, chunk by chunk, into `out`, which is exactly as long as the plaintext.

    `read(buffer, offset)` fills the buffer from that offset of the stream. Ciphertext passes through buffers of one
    chunk, on two threads where the stream is long. `out` holds bytes that nobody vouches for if this raises.

    Raises:
        DecryptionError: a chunk is changed, missing, added or out of place.
    """
    step = CHUNK + TAG
    chunks = max(1, -(-len(out) // CHUNK))
    if sealed_length(len(out)) != sealed_size:
        raise DecryptionError(_OPAQUE)
    cipher = AESGCM(key)

    def lane(first: int, stride: int) -> None:
        try:
            kept = _kept.pop()
        except IndexError:
            kept = bytearray(CHUNK + TAG)
        buffer = memoryview(kept)
        for i in range(first, chunks, stride):
            piece = buffer[: min(step, sealed_size - i * step)]
            read(piece, i * step)
            at = i * CHUNK
            cipher.decrypt_into(_nonce(i, i == chunks - 1), piece, aad, out[at : at + len(piece) - TAG])
        _kept.append(kept)

    try:
        if chunks < 4:
            lane(0, 1)
        else:
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(lane, 1, 2)
                lane(0, 2)
                other.result()
    except (InvalidTag, ValueError):
        raise DecryptionError(_OPAQUE) from None
