"""Field64 and Field128 of VDAF (draft-irtf-cfrg-vdaf-20, section 6.1), for whole arrays.

Both primes have the form p = 2^top - factor 2^low + 1. An element is limbs of 26 bits, int64, least significant first,
on the first axis: an array of elements has the shape (limbs, ...). Its value is the sum of limb_i 2^(26 i) modulo p;
limbs may be negative, and one element has many forms. Its words (`to_words`) are canonical.

Products are Montgomery's: `mul(a, b)` is a b / R with R = 2^(26 limbs). So one factor is *prepared*, which is to hold
R times itself (`prepare`, or `of(..., prepared=True)` for constants): mul(plain, prepared) is the plain product, and
mul(prepared, prepared) the prepared one.

Why nothing overflows. Call an element *tight* if every limb is at most 2^26 + 2^10 in size and its value v is within
(-2^(top-10), 2^top + 2^(top-10)). `of_words`, `mul`, `dot` and `tidy` return tight elements. With a the sum of (or the
difference between) A tight elements, b of B, and `dot` over K pairs, what is required is A B K <= 256 (MOST):

- A limb of the product gets at most `limbs` <= 5 products a pair: 256 * 5 * (2^26 + 2^10)^2 < 2^62.4.
- Montgomery's step i takes m = t_i mod 2^26, adds t_i >> 26 < 2^36.4 to limb i + 1, m factor 2^(low mod 26) to one limb
  (at most 7 * 2^14 * 2^26 < 2^43), and takes m 2^(top mod 26) < 2^50 from another. A limb meets each at most once:
  below 2^62.5 in size, within int64. It takes m p from the value, and p = 1 modulo 2^26, so limb i is cleared.
- What is left is at most 256 * 2^(2 top + 0.01) / R + p, which is below 2^(top + 7) for both fields.
- `tidy` takes limbs below 2^62.5 and a value below 2^(top + 10) in size. A pass of carries leaves the lower limbs below
  2^26 + 2^36.5 in size; a second one, below 2^26 + 2^11, and so the highest below 2^(top - 26 (limbs - 1) + 10) + 2^11.
  What that one holds above 2^top, h < 2^11 in size, is folded in: h 2^top = h factor 2^low - h modulo p, which adds
  less than 2^11 * 7 * 2^14 = 2^27.9 to one limb. The third pass carries at most 2^3 out of that limb, and 1 out of the
  others.

Plain sums of at most 256 tight elements keep within what `tidy` takes. NumPy's integer arithmetic takes the same time
for all values on the processors that we know; nothing in this file branches on an element, but that decoding tells
whether a value is below the modulus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Elements = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

LIMB = 26
MOST = 256
_MASK = (1 << LIMB) - 1


@dataclass(frozen=True, slots=True)
class Field:
    """A prime field with roots of unity of every order 2^k, k <= low.

    Attributes:
        name: as the draft calls it.
        factor, low, top: of the modulus 2^top - factor 2^low + 1.
        limbs: of an element in memory.
    """

    name: str
    factor: int
    low: int
    top: int
    limbs: int

    @property
    def modulus(self) -> int:
        return (1 << self.top) - (self.factor << self.low) + 1

    @property
    def words(self) -> int:
        """Words of 8 octets in an encoded element."""
        return self.top // 64

    @property
    def size(self) -> int:
        """Octets in an encoded element."""
        return self.top // 8

    def root(self, order: int) -> int:
        """The root of unity of order 2^k that the draft's generator gives."""
        return pow(7, (self.modulus - 1) // order, self.modulus)

    def of(self, values: Sequence[int], *, prepared: bool = False) -> Elements:
        """(limbs, len(values)) of integers, taken modulo p."""
        scale = 1 << (LIMB * self.limbs) if prepared else 1
        canonical = [value * scale % self.modulus for value in values]
        return np.array([[v >> (LIMB * i) & _MASK for v in canonical] for i in range(self.limbs)], np.int64)

    def ints(self, elements: Elements) -> list[int]:
        """The integers in [0, p) of (limbs, length) elements."""
        words = self.to_words(elements[..., None])[:, :, 0]
        return [sum(int(word) << (64 * i) for i, word in enumerate(value)) for value in words]

    def below(self, words: Words) -> Mask:
        """Which of (length, words, batch) are below the modulus."""
        limit = [np.uint64(self.modulus >> (64 * i) & 0xFFFFFFFFFFFFFFFF) for i in range(self.words)]
        less = words[:, 0] < limit[0]
        for i in range(1, self.words):
            less = (words[:, i] < limit[i]) | ((words[:, i] == limit[i]) & less)
        return less

    def of_words(self, words: Words) -> Elements:
        """(limbs, length, batch) of (length, words, batch), each below the modulus."""
        length, _, batch = words.shape
        out = np.empty((self.limbs, length, batch), np.uint64)
        for i in range(self.limbs):
            word, shift = divmod(LIMB * i, 64)
            if word >= self.words:
                out[i] = 0
                continue
            np.right_shift(words[:, word], np.uint64(shift), out=out[i])
            if shift > 64 - LIMB and word + 1 < self.words:
                out[i] |= words[:, word + 1] << np.uint64(64 - shift)
            out[i] &= np.uint64(_MASK)
        return out.view(np.int64)

    def to_words(self, elements: Elements) -> Words:
        """(length, words, batch), canonical, of (limbs, length, batch): tight, or a sum of at most 256 tight."""
        x = self._settle(self._fold(self._settle(self.tidy(elements))))
        # Below 2^top now. x >= p exactly if x + (2^top - p) carries out, and then what is left is x - p.
        y = x.copy()
        y[0] -= 1
        y[self.low // LIMB] += self.factor << (self.low % LIMB)
        y = self._settle(y)
        over = y[-1] >> self._spare
        y[-1] &= (1 << self._spare) - 1
        x += (y - x) * over
        out = np.zeros((x.shape[1], self.words, x.shape[2]), np.uint64)
        for i, limb in enumerate(x.view(np.uint64)):
            word, shift = divmod(LIMB * i, 64)
            if word < self.words:
                out[:, word] |= limb << np.uint64(shift)
                if shift > 64 - LIMB and word + 1 < self.words:
                    out[:, word + 1] |= limb >> np.uint64(64 - shift)
        return out

    @property
    def _spare(self) -> int:
        """Where 2^top lies in the highest limb."""
        return self.top - LIMB * (self.limbs - 1)

    def _fold(self, x: Elements) -> Elements:
        """What lies above 2^top, folded in; in place."""
        high = x[-1] >> self._spare
        x[-1] &= (1 << self._spare) - 1
        x[0] -= high
        high *= self.factor << (self.low % LIMB)
        x[self.low // LIMB] += high
        return x

    def _settle(self, x: Elements) -> Elements:
        """Carries from limb to limb, all but the highest within [0, 2^26); in place."""
        for i in range(self.limbs - 1):
            x[i + 1] += x[i] >> LIMB
            x[i] &= _MASK
        return x

    def _carry(self, x: Elements) -> Elements:
        """One pass of carries, all at once; in place."""
        carry = x[:-1] >> LIMB
        x[:-1] &= _MASK
        x[1:] += carry
        return x

    def tidy(self, x: Elements) -> Elements:
        """The same elements, tight: of a sum of at most 256 tight ones."""
        return self._carry(self._fold(self._carry(self._carry(x.copy()))))

    def mul(self, a: Elements, b: Elements) -> Elements:
        """a b / R, elementwise with broadcasting; both have the same number of axes."""
        shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
        product = np.zeros((2 * self.limbs, *shape), np.int64)
        part = np.empty((self.limbs, *shape), np.int64)
        for i in range(self.limbs):
            np.multiply(a[i], b, out=part)
            product[i : i + self.limbs] += part
        return self._reduce(product)

    def dot(self, a: Elements, b: Elements) -> Elements:
        """The sum over the first axis after the limbs' of a b / R, of at most 256 tight pairs at a time."""
        terms = a.shape[1]
        shape = np.broadcast_shapes(a.shape[2:], b.shape[2:])
        total: Elements | None = None
        part = np.empty((self.limbs, *shape), np.int64)
        for first in range(0, terms, MOST):
            product = np.zeros((2 * self.limbs, *shape), np.int64)
            for k in range(first, min(first + MOST, terms)):
                for i in range(self.limbs):
                    np.multiply(a[i, k], b[:, k], out=part)
                    product[i : i + self.limbs] += part
            done = self._reduce(product)
            total = done if total is None else self.tidy(total + done)
        return np.zeros((self.limbs, *shape), np.int64) if total is None else total

    def _reduce(self, t: Elements) -> Elements:
        """Montgomery's reduction of a product of 2 limbs limbs; what it works on is overwritten."""
        low, high = self.low // LIMB, self.top // LIMB
        scale, shift = self.factor << (self.low % LIMB), self.top % LIMB
        for i in range(self.limbs):
            m = t[i] & _MASK
            t[i] >>= LIMB
            t[i + 1] += t[i]
            t[i + high] -= m << shift
            m *= scale
            t[i + low] += m
        upper = t[self.limbs :]
        return self._carry(self._fold(self._carry(self._carry(upper))))

    def prepare(self, a: Elements) -> Elements:
        """R times the elements: to be a factor."""
        square = self.of([1 << (LIMB * self.limbs)], prepared=True)
        return self.mul(a, square.reshape(self.limbs, *(1 for _ in a.shape[1:])))

    def total(self, a: Elements) -> Elements:
        """The sum over the first axis after the limbs', tight."""
        total = np.zeros((self.limbs, *a.shape[2:]), np.int64)
        for first in range(0, a.shape[1], MOST - 1):
            total = self.tidy(a[:, first : first + MOST - 1].sum(axis=1) + total)
        return total

    def zero(self, elements: Elements) -> Mask:
        """Which of (limbs, length, batch) are zero: (length, batch)."""
        return np.asarray(~self.to_words(elements).any(axis=1))


FIELD64 = Field("Field64", factor=1, low=32, top=64, limbs=3)
FIELD128 = Field("Field128", factor=7, low=66, top=128, limbs=5)
