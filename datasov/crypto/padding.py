"""How many decoys stand among hashes or marks that are made public: drawn, so that their number tells of nobody.

Rounding up to a multiple alone tells, to whoever knows of everybody else, whether one more crossed it. A drawn number,
added first, makes the count (epsilon, delta)-differentially private for each entry; rounding is post-processing.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from datasov.crypto.kdf import random

STEP = 256
"""Published counts are multiples of this."""
CENTRE = 200
"""Mean number of decoys that are drawn, before rounding."""
_KEPT, _OF = 9, 10  # exp(-epsilon) as a fraction, so that all is exact
_WEIGHTS = [_KEPT ** abs(k - CENTRE) * _OF ** (CENTRE - abs(k - CENTRE)) for k in range(2 * CENTRE + 1)]
_ENDS = list(accumulate(_WEIGHTS))
_BYTES = _ENDS[-1].bit_length() // 8 + 1
_BITS = _ENDS[-1].bit_length()


def decoys() -> int:
    """A number from 0 to 400, by the discrete Laplace distribution around 200 with exp(-epsilon) = 0.9, cut there."""
    while True:
        drawn = int.from_bytes(random(_BYTES), "big") >> (8 * _BYTES - _BITS)
        if drawn < _ENDS[-1]:
            return bisect_right(_ENDS, drawn)


def padded(real: int) -> int:
    """How many entries to publish for so many real ones: with drawn decoys, the next multiple of 256 above zero."""
    return max(STEP, -(-(real + decoys()) // STEP) * STEP)
