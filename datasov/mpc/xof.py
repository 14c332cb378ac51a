"""XofTurboShake128 of VDAF (draft-irtf-cfrg-vdaf-20, section 6.2.1) over TurboSHAKE128 (RFC 9861), for a batch.

A batch is a column a report: Keccak's 25 lanes are 25 rows of uint64, so one NumPy call does a step for all reports.
Nothing here branches on a secret, except that an element at or above the modulus is drawn again, as the draft says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasov.crypto.turboshake import turboshake128 as one_by_one
from datasov.mpc.field import Field, Words

Octets = NDArray[np.uint8]
Part = bytes | Octets

SEED_SIZE = 32
RATE = 168
_LANES = RATE // 8

# The last 12 of Keccak-f[1600]'s round constants: TurboSHAKE is Keccak-p[1600, n_r=12].
_ROUNDS = (
    0x000000008000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
)  # fmt: skip


def _offsets() -> tuple[Words, NDArray[np.intp]]:
    """rho's rotations by lane, and where pi takes each lane from: 7 lanes a row, two of them again for chi."""
    turns, source = [0] * 25, [0] * 25
    x, y = 1, 0
    for step in range(24):
        turns[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    for x in range(5):
        for y in range(5):
            source[y + 5 * ((2 * x + 3 * y) % 5)] = x + 5 * y
    rows = [source[5 * row + column % 5] for row in range(5) for column in range(7)]
    return np.array(turns, np.uint64).reshape(25, 1), np.array(rows, np.intp)


_LEFT, _SOURCE = _offsets()
_RIGHT = (np.uint64(64) - _LEFT) % np.uint64(64)
_ONE, _SIXTY_THREE = np.uint64(1), np.uint64(63)
_BEFORE, _AFTER = np.array([4, 0, 1, 2, 3], np.intp), np.array([1, 2, 3, 4, 0], np.intp)


def _permute(state: Words) -> None:
    """Keccak-p[1600, 12] on (25, batch) lanes, in place; lane x + 5 y."""
    batch = state.shape[1]
    square = state.reshape(5, 5, batch)
    # Buffers 8 lanes' width and a line apart: arrays that agree modulo a page are several times slower to go between.
    scratch = np.empty(95 * batch + 24, np.uint64)
    turned = scratch[: 25 * batch].reshape(25, batch)
    wide = scratch[25 * batch + 8 : 60 * batch + 8].reshape(35, batch)
    mixed = scratch[60 * batch + 24 : 95 * batch + 24].reshape(35, batch)
    rows, terms = wide.reshape(5, 7, batch)[:, :5], mixed.reshape(5, 7, batch)[:, :5]
    for constant in _ROUNDS:
        column = state[:5] ^ state[5:10]
        column ^= state[10:15]
        column ^= state[15:20]
        column ^= state[20:]
        after = column.take(_AFTER, axis=0)
        parity = after << _ONE
        parity |= after >> _SIXTY_THREE
        parity ^= column.take(_BEFORE, axis=0)
        square ^= parity
        np.left_shift(state, _LEFT, out=turned)
        np.right_shift(state, _RIGHT, out=state)
        state |= turned
        np.take(state, _SOURCE, axis=0, out=wide, mode="clip")
        # chi's (not a) and b is (a and b) xor b; over the flat rows, of which each sixth and seventh is not used.
        np.bitwise_and(wide[1:34], wide[2:], out=mixed[:33])
        mixed[:33] ^= wide[2:]
        np.bitwise_xor(rows, terms, out=square)
        state[0] ^= np.uint64(constant)


def join(batch: int, parts: Sequence[Part]) -> Octets:
    """Messages (batch, length) of parts that are the same for all, or (batch, k) octets."""
    message = np.empty((batch, sum(len(p) if isinstance(p, bytes) else p.shape[1] for p in parts)), np.uint8)
    at = 0
    for part in parts:
        octets = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        message[:, at : at + octets.shape[-1]] = octets
        at += octets.shape[-1]
    return message


def turboshake128(messages: Octets, domain: int, words: int) -> Words:
    """TurboSHAKE128(M, D, 8 words) of a batch of messages of one length: whichever way is faster, where there are two.

    Args:
        messages: (batch, length) octets.
        domain: D, from 0x01 to 0x7f.
        words: how many little-endian words of 8 octets to squeeze.

    Returns:
        (words, batch).
    """
    batch, length = messages.shape
    single = one_by_one()
    # Microseconds, measured: a permutation takes 190 and 1.6 a message here; there 0.2, and each message 7 besides.
    permutations = length // RATE + -(-words // _LANES)
    if single is None or batch * (7 + 0.2 * permutations) > permutations * (190 + 1.6 * batch):
        return in_batch(messages, domain, words)
    stream = b"".join(single(message.tobytes(), domain, 8 * words) for message in messages)
    return np.ascontiguousarray(np.frombuffer(stream, "<u8").reshape(batch, words).T).astype(np.uint64, copy=False)


def in_batch(messages: Octets, domain: int, words: int) -> Words:
    """The same, in NumPy."""
    batch, length = messages.shape
    blocks = length // RATE + 1
    padded = np.zeros((batch, blocks * RATE), np.uint8)
    padded[:, :length] = messages
    padded[:, length] = domain
    padded[:, -1] ^= 0x80
    lanes = np.ascontiguousarray(padded.view("<u8").T).reshape(blocks, _LANES, batch)
    state = np.zeros((25, batch), np.uint64)
    for block in lanes:
        state[:_LANES] ^= block
        _permute(state)
    out = np.empty((words, batch), np.uint64)
    for at in range(0, words, _LANES):
        if at:
            _permute(state)
        taken = min(_LANES, words - at)
        out[at : at + taken] = state[:taken]
    return out


def octets(words: Words) -> Octets:
    """(words, batch) as (batch, 8 words) octets, little-endian."""
    return np.ascontiguousarray(words.T).astype("<u8", copy=False).view(np.uint8)


def _message(batch: int, seed: Part, dst: bytes, binder: Sequence[Part]) -> Octets:
    head = len(dst).to_bytes(2, "little") + dst + bytes([SEED_SIZE])
    return join(batch, [head, seed, *binder])


def derive_seed(batch: int, seed: Part, dst: bytes, binder: Sequence[Part]) -> Octets:
    """Seeds (batch, 32): `Xof.derive_seed` of the draft."""
    return octets(turboshake128(_message(batch, seed, dst, binder), 1, SEED_SIZE // 8))


def expand(field: Field, batch: int, seed: Part, dst: bytes, binder: Sequence[Part], length: int) -> Words:
    """`Xof.expand_into_vec`: (length, words an element, batch), each below the modulus."""
    messages = _message(batch, seed, dst, binder)
    drawn = turboshake128(messages, 1, length * field.words).reshape(length, field.words, batch)
    return redraw(field, messages, drawn)


def redraw(field: Field, messages: Octets, drawn: Words) -> Words:
    """What is drawn with the elements at or above the modulus left out, and as many more of the stream at the end."""
    length = drawn.shape[0]
    for column in np.flatnonzero(~field.below(drawn).all(axis=0)):
        more = length
        while True:
            more += 8
            stream = turboshake128(messages[column : column + 1], 1, more * field.words)
            elements = stream.reshape(more, field.words, 1)
            kept = elements[field.below(elements)[:, 0]]
            if len(kept) >= length:
                drawn[:, :, column] = kept[:length, :, 0]
                break
    return drawn
