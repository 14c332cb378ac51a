"""XofTurboShake128 of VDAF (draft-irtf-cfrg-vdaf-20, section 6.2.1) over TurboSHAKE128 (RFC 9861), for a batch at a time.

A batch is a column a report: Keccak's 25 lanes are 25 rows of uint64, so one NumPy call does a step for all reports.
Nothing here branches on a secret, except that an element at or above the modulus is drawn again, as the draft says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasov.mpc.field import Elements, Field, Words

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
    turned = np.empty_like(state)
    wide = np.empty((35, batch), np.uint64)
    rows = wide.reshape(5, 7, batch)
    inverse = np.empty((5, 5, batch), np.uint64)
    for constant in _ROUNDS:
        column = np.bitwise_xor.reduce(square, axis=0)
        after = column.take(_AFTER, axis=0)
        parity = after << _ONE
        parity |= after >> _SIXTY_THREE
        parity ^= column.take(_BEFORE, axis=0)
        square ^= parity
        np.left_shift(state, _LEFT, out=turned)
        np.right_shift(state, _RIGHT, out=state)
        state |= turned
        np.take(state, _SOURCE, axis=0, out=wide, mode="clip")
        np.bitwise_not(rows[:, 1:6], out=inverse)
        inverse &= rows[:, 2:7]
        np.bitwise_xor(rows[:, :5], inverse, out=square)
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
    """TurboSHAKE128(M, D, 8 words) of a batch of messages of one length.

    Args:
        messages: (batch, length) octets.
        domain: D, from 0x01 to 0x7f.
        words: how many little-endian words of 8 octets to squeeze.

    Returns:
        (words, batch).
    """
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


def expand_elements(
    field: Field, batch: int, seed: Part, dst: bytes, binder: Sequence[Part], length: int
) -> Elements:
    """The same as elements: (limbs, length, batch)."""
    return field.of_words(expand(field, batch, seed, dst, binder, length))
