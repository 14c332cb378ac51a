"""Token Status Lists (draft-ietf-oauth-status-list-18), as signed CWTs: which consents are over. docs/spec/status.md.

A consent's index of 32 bits is the number of a list (the high 12) and a place in it (the low 20). An entry is one bit:
0 valid, 1 invalid. Lists of 2, 4 and 8 bits an entry are read too.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datasov.authority.columns import Array
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import VerificationError
from datasov.wire import cbor, cwt, fields

KIND = "application/statuslist+cwt"
LISTS, ENTRIES = 1 << 12, 1 << 20
MAX_TOKEN = 1024 * 1024
"""Bytes in a signed list: one of random bits has about 132,000."""
_SUB, _EXP, _IAT, _TTL, _LIST = 2, 4, 6, 65534, 65533

Values = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StatusList:
    """A verified list: its number, Unix seconds of its making and of its end, and the places that are not valid."""

    number: int
    issued: int
    expires: int
    invalid: npt.NDArray[np.int64]


def list_of(index: Array) -> Array:
    """The numbers of the lists of many indices."""
    return index >> 20


def uri(verify_key: bytes, number: int) -> str:
    """The name of a city's list, which its `sub` claim holds."""
    return f"urn:datasov:status:{sha256(b'datasov status lists v1', verify_key)[:16].hex()}:{number}"


def compress(values: Array, bits: int = 1) -> bytes:
    """The entries of a list as zlib's stream of its packed bits, the first entry in the lowest bits of the first byte.

    Args:
        values: of at most `bits` bits each. bits: 1, 2, 4 or 8.
    """
    each = 8 // bits
    padded = np.zeros(-(-len(values) // each) * each, dtype=np.uint8)
    padded[: len(values)] = values
    shifted = padded.reshape(-1, each) << (np.arange(each, dtype=np.uint8) * bits)
    return _deflate(np.bitwise_or.reduce(shifted, axis=1).astype(np.uint8).tobytes())


def decompress(lst: bytes, bits: int = 1, most: int = ENTRIES) -> Values:
    """The entries of a list, with the padding of its last byte; at most `most` of them are ever unpacked.

    Raises:
        VerificationError: no such width, not one whole zlib stream, or more entries than `most`.
    """
    found = _inflate(lst, bits, most)
    if bits == 1:
        return np.unpackbits(found, bitorder="little")
    shifts = (np.arange(8 // bits) * bits).astype(np.uint8)
    entries: Values = (found[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    return entries.reshape(-1)


def read_cbor(data: bytes, most: int = ENTRIES) -> Values:
    """The entries of a bare list in CBOR, {"bits", "lst"} in this order or in that of deterministic CBOR."""
    given = b"\xa2" + cbor.encode("bits")
    if data[: len(given)] == given:
        value: Any = {"bits": cbor.decode(data[len(given) : len(given) + 1])}
        rest, name = data[len(given) + 1 :], cbor.encode("lst")
        if rest[: len(name)] != name:
            raise VerificationError("not a status list: ask its issuer for the original bytes")
        value["lst"] = cbor.decode(rest[len(name) :])
    else:
        value = cbor.decode(data)
    return decompress(*_parts(value), most)


def packed(invalid: Array) -> bytes:
    """A list of 2^20 entries of one bit, of which those at the places `invalid` are set: zlib's stream of its bits."""
    bits = np.zeros(ENTRIES // 8, dtype=np.uint8)
    places = invalid.astype(np.int64)
    np.bitwise_or.at(bits, places >> 3, (1 << (places & 7)).astype(np.uint8))
    return _deflate(bits.tobytes())


def issue(number: int, lst: bytes, key: SigningKey, *, now: int, expires: int, ttl: int) -> bytes:
    """The signed list of this number.

    Args:
        lst: as :func:`packed` gives it. now, expires: Unix seconds. ttl: seconds for which a copy may be used.
    """
    claims = {
        _SUB: uri(key.public, number), _EXP: expires, _IAT: now, _TTL: ttl,
        _LIST: {"bits": 1, "lst": lst},
    }  # fmt: skip
    return cwt.sign(claims, key, KIND)


def resigned(token: bytes, verify_key: bytes, number: int, key: SigningKey) -> bytes:
    """The same list under the key that follows the city's; errors as :func:`read`."""
    read(token, verify_key, number)
    claims = cwt.read(token, verify_key, KIND)
    return cwt.sign({**claims, _SUB: uri(key.public, number)}, key, KIND)


def read(token: bytes, verify_key: bytes, number: int) -> StatusList:
    """The list of this number, verified under the city's key alone. Whether it has expired is for who uses it.

    Raises:
        SignatureError: not signed by this city as a status list.
        VerificationError: another city's or number's list, or one that does not unpack to 2^20 entries of one bit.
    """
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN:
        raise VerificationError("not a status list, or longer than 1 MiB: ask the city for it again")
    found = fields.labelled(cwt.read(token, verify_key, KIND), (_SUB, _EXP, _IAT, _TTL, _LIST))
    if found[_SUB] != uri(verify_key, number):
        raise VerificationError("the status list is another one: ask the city for the one of this number")
    fields.integer(found[_TTL], 1, fields.MAX_TIME)
    value = found[_LIST]
    if type(value) is not dict or value.get("bits") != 1 or type(value["bits"]) is not int:
        raise VerificationError("a consent's status has one bit: ask the city for its own list")
    bits = _inflate(*_parts(value), ENTRIES)
    if len(bits) != ENTRIES // 8:
        raise VerificationError("a city's status list has 2^20 entries: ask the city for the original bytes")
    issued, expires = (fields.integer(found[label], 0, fields.MAX_TIME) for label in (_IAT, _EXP))
    nonzero = np.flatnonzero(bits)
    bit = np.flatnonzero(np.unpackbits(bits[nonzero], bitorder="little"))
    return StatusList(number, issued, expires, (nonzero[bit >> 3] << 3) + (bit & 7))


def _parts(value: Any) -> tuple[bytes, int]:
    if type(value) is not dict or set(value) != {"bits", "lst"} or type(value["bits"]) is not int:
        raise VerificationError("not a status list: ask its issuer for the original bytes")
    return fields.blob(value["lst"], MAX_TOKEN), value["bits"]


def _inflate(lst: bytes, bits: int, most: int) -> Values:
    """The packed bytes of at most `most` entries: no more than one byte beyond is ever unpacked."""
    if bits not in (1, 2, 4, 8):
        raise VerificationError("a status list has 1, 2, 4 or 8 bits an entry: ask its issuer for another")
    room = -(-most * bits // 8)
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(lst, room + 1)
    except zlib.error:
        raise VerificationError("a status list that does not unpack: ask its issuer for the original bytes") from None
    if len(found) > room:
        raise VerificationError("a status list with more entries than it may have: ask its issuer for another")
    if not stream.eof or stream.unused_data:
        raise VerificationError("a status list that is cut off or too long: ask its issuer for the original bytes")
    return np.frombuffer(found, dtype=np.uint8)


def _deflate(bits: bytes) -> bytes:
    """zlib's stream by run lengths alone: nearly as short as any for lists that are mostly zeros, and three times as
    fast to make."""
    stream = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return stream.compress(bits) + stream.flush()
