"""Prio3 as slowly and plainly as it can be written: Python integers, one report, no shared code with the package.

From the pseudo-code of draft-irtf-cfrg-vdaf-20 and RFC 9861. Polynomials are interpolated by Lagrange's formula: none
of the package's transforms, lazy limbs or closed forms occurs here.
"""

from __future__ import annotations

from functools import reduce

MASK64 = (1 << 64) - 1
P64 = 2**32 * 4294967295 + 1
P128 = 2**66 * 4611686018427387897 + 1


def _rotate(word, by):
    return (word << by | word >> (64 - by)) & MASK64 if by else word


def _round_constants(rounds):
    """Of Keccak-f[1600], by its linear feedback register; the last so many of 24."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << (2**j - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return constants[-rounds:]


CONSTANTS = _round_constants(12)


def _keccak(lanes):
    """Keccak-p[1600, 12] on a dict of (x, y)."""
    for constant in CONSTANTS:
        parity = [reduce(lambda a, b: a ^ b, (lanes[x, y] for y in range(5))) for x in range(5)]
        lanes = {
            (x, y): lanes[x, y] ^ parity[(x - 1) % 5] ^ _rotate(parity[(x + 1) % 5], 1)
            for x in range(5)
            for y in range(5)
        }
        x, y, moved = 1, 0, {(0, 0): lanes[0, 0]}
        for t in range(24):
            moved[y, (2 * x + 3 * y) % 5] = _rotate(lanes[x, y], (t + 1) * (t + 2) // 2 % 64)
            x, y = y, (2 * x + 3 * y) % 5
        lanes = {
            (x, y): moved[x, y] ^ (~moved[(x + 1) % 5, y] & MASK64 & moved[(x + 2) % 5, y])
            for x in range(5)
            for y in range(5)
        }
        lanes[0, 0] ^= constant
    return lanes


def turboshake128(message, domain, length):
    padded = bytearray(message + bytes([domain]))
    padded += bytes(-len(padded) % 168)
    padded[-1] ^= 0x80
    lanes = {(x, y): 0 for x in range(5) for y in range(5)}
    for block in range(0, len(padded), 168):
        for i in range(21):
            lanes[i % 5, i // 5] ^= int.from_bytes(padded[block + 8 * i : block + 8 * i + 8], "little")
        lanes = _keccak(lanes)
    out = b""
    while len(out) < length:
        out += b"".join(lanes[i % 5, i // 5].to_bytes(8, "little") for i in range(21))
        lanes = _keccak(lanes) if len(out) < length else lanes
    return out[:length]


def xof(seed, dst, binder, length):
    message = len(dst).to_bytes(2, "little") + dst + bytes([len(seed)]) + seed + binder
    return turboshake128(message, 1, length)


def draw(p, seed, dst, binder, length):
    """Field elements, those at or above the modulus left out."""
    size = (p.bit_length() + 7) // 8
    octets = size * length
    while True:
        stream = xof(seed, dst, binder, octets)
        numbers = [int.from_bytes(stream[i : i + size], "little") for i in range(0, octets, size)]
        kept = [number for number in numbers if number < p]
        if len(kept) >= length:
            return kept[:length]
        octets *= 2


def power_of_two(least):
    size = 1
    while size < least:
        size *= 2
    return size


def roots(p, n):
    return [pow(pow(7, (p - 1) // n, p), i, p) for i in range(n)]


def interpolate(p, points, values, at):
    total = 0
    for i, (x, y) in enumerate(zip(points, values, strict=True)):
        above = below = 1
        for j, other in enumerate(points):
            if i != j:
                above = above * (at - other) % p
                below = below * (x - other) % p
        total += y * above * pow(below, -1, p)
    return total % p


def _bits(value, maximum):
    bits = maximum.bit_length()
    rest = 2 ** (bits - 1) - 1
    if value <= rest:
        return [value >> i & 1 for i in range(bits - 1)] + [0]
    return [(value - (maximum - rest)) >> i & 1 for i in range(bits - 1)] + [1]


def _unbits(p, bits, maximum):
    rest = 2 ** (len(bits) - 1) - 1
    return (sum(2**i * b for i, b in enumerate(bits[:-1])) + (maximum - rest) * bits[-1]) % p


class Reference:
    """One of the five. Parameters are named as in the draft's vectors."""

    def __init__(self, name, shares, *, length=1, max_measurement=1, max_weight=1, chunk_length=1):
        self.name, self.shares, self.length, self.chunk = name, shares, length, chunk_length
        self.maximum, self.weight = max_measurement, max_weight
        self.id = ["Count", "Sum", "SumVec", "Histogram", "MultihotCountVec"].index(name) + 1
        self.p = P64 if name in ("Count", "Sum") else P128
        self.size = 8 if self.p == P64 else 16
        bits = max_measurement.bit_length()
        self.meas_len = {
            "Count": 1, "Sum": bits, "SumVec": bits * length, "Histogram": length,
            "MultihotCountVec": length + max_weight.bit_length(),
        }[name]  # fmt: skip
        self.joint = name not in ("Count", "Sum")
        self.arity = {"Count": 2, "Sum": 1}.get(name, 2 * chunk_length)
        self.calls = {"Count": 1, "Sum": bits}.get(name, (self.meas_len + chunk_length - 1) // chunk_length)
        self.n = power_of_two(1 + self.calls)
        self.proof_len = self.arity + 2 * (self.n - 1) + 1
        self.eval_len = {"Count": 1, "Sum": bits, "SumVec": 1}.get(name, 2)
        self.rand_size = 32 * shares * (2 if self.joint else 1)

    def encode(self, measurement):
        if self.name == "Count":
            return [measurement]
        if self.name == "Sum":
            return _bits(measurement, self.maximum)
        if self.name == "SumVec":
            return [bit for value in measurement for bit in _bits(value, self.maximum)]
        if self.name == "Histogram":
            return [int(i == measurement) for i in range(self.length)]
        return [int(b) for b in measurement] + _bits(sum(measurement), self.weight)

    def truncate(self, meas):
        if self.name == "Sum":
            return [_unbits(self.p, meas, self.maximum)]
        if self.name == "SumVec":
            bits = self.maximum.bit_length()
            return [_unbits(self.p, meas[i * bits : (i + 1) * bits], self.maximum) for i in range(self.length)]
        return meas[: self.length]

    def gadget(self, wires):
        if self.name == "Sum":
            return (wires[0] * wires[0] - wires[0]) % self.p
        return sum(wires[i] * wires[i + 1] for i in range(0, len(wires), 2)) % self.p

    def evaluate(self, meas, joint_rand, shares, call):
        """The circuit; `call` is what answers for the gadget."""
        p, part = self.p, pow(shares, -1, self.p)
        if self.name == "Count":
            return [(call([meas[0], meas[0]]) - meas[0]) % p]
        if self.name == "Sum":
            return [call([bit]) for bit in meas]
        check = 0
        for i in range(self.calls):
            wires = []
            for j in range(self.chunk):
                k = i * self.chunk + j
                element = meas[k] if k < len(meas) else 0
                wires += [pow(joint_rand[i], j + 1, p) * element % p, (element - part) % p]
            check += call(wires)
        if self.name == "SumVec":
            return [check % p]
        if self.name == "Histogram":
            return [check % p, (sum(meas) - part) % p]
        return [check % p, (sum(meas[: self.length]) - _unbits(p, meas[self.length :], self.weight)) % p]

    def prove(self, meas, seeds, joint_rand):
        recorded = []

        def call(wires):
            recorded.append(wires)
            return self.gadget(wires)

        self.evaluate(meas, joint_rand, 1, call)
        rows = [seeds, *recorded] + [[0] * self.arity] * (self.n - 1 - len(recorded))
        points = roots(self.p, self.n)
        proof = list(seeds)
        for x in roots(self.p, 2 * self.n)[: 2 * self.n - 1]:
            wires = [interpolate(self.p, points, [row[j] for row in rows], x) for j in range(self.arity)]
            proof.append(self.gadget(wires))
        return proof

    def query(self, meas, proof, rand, joint_rand):
        seeds, values = proof[: self.arity], proof[self.arity :]
        recorded = []

        def call(wires):
            recorded.append(wires)
            return values[2 * len(recorded)]

        out = self.evaluate(meas, joint_rand, self.shares, call)
        if self.eval_len > 1:
            out = [sum(r * v for r, v in zip(rand[:-1], out, strict=True)) % self.p]
        rows = [seeds, *recorded] + [[0] * self.arity] * (self.n - 1 - len(recorded))
        points = roots(self.p, self.n)
        wires = [interpolate(self.p, points, [row[j] for row in rows], rand[-1]) for j in range(self.arity)]
        twice = roots(self.p, 2 * self.n)[: 2 * self.n - 1]
        return [*out, *wires, interpolate(self.p, twice, values, rand[-1])]

    def bytes(self, vector):
        return b"".join(x.to_bytes(self.size, "little") for x in vector)

    def vector(self, octets):
        return [int.from_bytes(octets[i : i + self.size], "little") for i in range(0, len(octets), self.size)]

    def _dst(self, usage, ctx):
        return bytes([18, 0]) + self.id.to_bytes(4, "big") + usage.to_bytes(2, "big") + ctx

    def _draw(self, usage, ctx, seed, binder, length):
        return draw(self.p, seed, self._dst(usage, ctx), binder, length) if length else []

    def _helper(self, ctx, j, seed):
        meas = self._draw(1, ctx, seed, bytes([j]), self.meas_len)
        return meas, self._draw(2, ctx, seed, bytes([1, j]), self.proof_len)

    def _part(self, ctx, j, blind, nonce, meas):
        return xof(blind, self._dst(7, ctx), bytes([j]) + nonce + self.bytes(meas), 32)

    def _joint(self, ctx, parts):
        seed = xof(bytes(32), self._dst(6, ctx), b"".join(parts), 32)
        return seed, self._draw(3, ctx, seed, bytes([1]), self.calls)

    def shard(self, ctx, measurement, nonce, rand):
        seeds = [rand[i : i + 32] for i in range(0, len(rand), 32)]
        meas, step = self.encode(measurement), 2 if self.joint else 1
        helpers = [self._helper(ctx, j, seeds[step * (j - 1)]) for j in range(1, self.shares)]
        blinds = [seeds[-2], *seeds[1 : 2 * (self.shares - 1) : 2]] if self.joint else []
        leader = [(m - sum(h[0][i] for h in helpers)) % self.p for i, m in enumerate(meas)]
        public, joint_rand = b"", []
        if self.joint:
            of_all = [leader, *(h[0] for h in helpers)]
            parts = [self._part(ctx, j, blinds[j], nonce, of_all[j]) for j in range(self.shares)]
            public, joint_rand = b"".join(parts), self._joint(ctx, parts)[1]
        proof = self.prove(meas, self._draw(4, ctx, seeds[-1], bytes([1]), self.arity), joint_rand)
        proof = [(x - sum(h[1][i] for h in helpers)) % self.p for i, x in enumerate(proof)]
        inputs = [self.bytes(leader) + self.bytes(proof) + b"".join(blinds[:1])]
        inputs += [b"".join(seeds[step * j : step * (j + 1)]) for j in range(self.shares - 1)]
        return public, inputs

    def verify_init(self, key, ctx, j, nonce, public, share):
        if j:
            meas, proof = self._helper(ctx, j, share[:32])
        else:
            vector = self.vector(share[: self.size * (self.meas_len + self.proof_len)])
            meas, proof = vector[: self.meas_len], vector[self.meas_len :]
        seed, part, joint_rand = b"", b"", []
        if self.joint:
            parts = [public[i : i + 32] for i in range(0, len(public), 32)]
            parts[j] = part = self._part(ctx, j, share[-32:], nonce, meas)
            seed, joint_rand = self._joint(ctx, parts)
        rand = self._draw(5, ctx, key, bytes([1]) + nonce, 1 + (self.eval_len if self.eval_len > 1 else 0))
        verifier = self.query(meas, proof, rand, joint_rand)
        return self.truncate(meas), seed, self.bytes(verifier) + part

    def message(self, ctx, shares):
        """The message, or None for a report that is refused."""
        length = self.size * (self.arity + 2)
        vectors = [self.vector(share[:length]) for share in shares]
        verifier = [sum(column) % self.p for column in zip(*vectors, strict=True)]
        if verifier[0] or self.gadget(verifier[1:-1]) != verifier[-1]:
            return None
        return self._joint(ctx, [share[length:] for share in shares])[0] if self.joint else b""
