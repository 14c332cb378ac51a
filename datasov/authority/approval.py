"""Documents that several people sign: detached signatures, thresholds counted by public keys, one readable file.

What is signed is the Sig_structure of COSE_Sign1 (RFC 9052, section 4.4) over the document's canonical text, with the
kind of document as its external AAD: no signature of one kind serves as one of another. docs/spec/charter.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datasov.authority.paper import base32
from datasov.crypto.kdf import sha256
from datasov.crypto.sign import SigningKey, check_public, verify
from datasov.errors import InvalidQueryError, SignatureError, VerificationError
from datasov.model.charter import exactly, malformed, plain
from datasov.model.document import Document, canonical
from datasov.wire import cbor

MAX_DOCUMENT = 1024 * 1024
"""Bytes of a document's canonical text."""
MAX_SIGNED = 2 * 1024 * 1024
"""Bytes of a document with its signatures."""
ABOUT = 9
_PROTECTED = cbor.encode({1: -19})


def to_be_signed(kind: str, text: bytes) -> bytes:
    """What an Ed25519 key signs for a document with this canonical text."""
    return cbor.encode(["Signature1", _PROTECTED, kind.encode(), text])


def identity(kind: str, document: Document) -> bytes:
    """SHA-256 of what is signed: 32 bytes, the same whoever signed."""
    return sha256(to_be_signed(kind, canonical(document)))


def fingerprint(digest: bytes) -> str:
    """The first 100 bits of an identity in Crockford's base32, in five groups: what signers read out to each other."""
    digits = base32(digest[:13])[:20]
    return "-".join(digits[i : i + 4] for i in range(0, 20, 4))


@dataclass(frozen=True, slots=True)
class Signature:
    """One key's signature over one document.

    Attributes:
        key: 32 bytes. signature: 64 bytes.
        about: the first :data:`ABOUT` bytes of the document's identity, to say which one a stray signature is over.
    """

    key: bytes
    about: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Signed:
    """A document of a kind, with signatures by public key. Reading one verifies nothing: :func:`signers` does."""

    kind: str
    document: Mapping[str, Any]
    signatures: Mapping[bytes, bytes]

    @property
    def identity(self) -> bytes:
        return identity(self.kind, self.document)

    def to_bytes(self) -> bytes:
        """Canonical JSON, in which it enters the log and travels."""
        found = {key.hex(): signature.hex() for key, signature in self.signatures.items()}
        return canonical({"kind": self.kind, "document": self.document, "signatures": found})

    @staticmethod
    def from_bytes(data: bytes) -> Signed:
        """The document of a file, however its JSON is laid out; VerificationError where it is none."""
        if not isinstance(data, bytes) or len(data) > MAX_SIGNED:
            raise VerificationError("not a signed document, or longer than 2 MiB: ask for it again")
        try:
            found = exactly(parse(data), ("kind", "document", "signatures"), "a signed document")
            if not isinstance(found["document"], dict):
                raise malformed("it has no document")
            plain(found["kind"], 64, "its kind")
            if not isinstance(found["signatures"], dict):
                raise malformed("its signatures are a map of keys")
            signatures = {_hex(k, 32): _hex(s, 64) for k, s in found["signatures"].items()}
        except InvalidQueryError as why:
            raise VerificationError(f"not a signed document, which `collect` writes: {why}") from None
        return Signed(found["kind"], found["document"], signatures)


def sign(kind: str, document: Document, key: SigningKey) -> Signature:
    """A key's signature over a document of a kind.

    Raises:
        InvalidQueryError: the document is longer than 1 MiB.
    """
    text = canonical(document)
    if len(text) > MAX_DOCUMENT:
        raise malformed("it is longer than 1 MiB")
    message = to_be_signed(kind, text)
    return Signature(key.public, sha256(message)[:ABOUT], key.sign(message))


def signed(kind: str, document: Document, signatures: Iterable[Signature]) -> Signed:
    """The document with those of the signatures that are over it and verify, one for each key.

    Raises:
        SignatureError: one is over another document, or does not verify.
    """
    text = canonical(document)
    message = to_be_signed(kind, text)
    found: dict[bytes, bytes] = {}
    for each in signatures:
        if each.about != sha256(message)[:ABOUT]:
            raise SignatureError(
                f"the signature of {each.key.hex()} is over another document: ask its signer to sign "
                f"{fingerprint(sha256(message))}"
            )
        _verify(each.key, message, each.signature)
        found[each.key] = each.signature
    return Signed(kind, document, found)


def signers(document: Signed) -> frozenset[bytes]:
    """The keys whose signatures over the document verify: public keys, each counted once.

    Raises:
        SignatureError: a signature does not verify, or its key is no point of the prime-order group.
    """
    text = canonical(document.document)
    if len(text) > MAX_DOCUMENT:
        raise SignatureError("the document is longer than 1 MiB: ask for one that is shorter")
    message = to_be_signed(document.kind, text)
    for key, signature in document.signatures.items():
        _verify(key, message, signature)
    return frozenset(document.signatures)


def short(group: Collection[bytes], threshold: int, by: Collection[bytes]) -> int:
    """How many keys of a group are still missing: 0 where the threshold is met."""
    return max(0, threshold - len(frozenset(group) & frozenset(by)))


def parse(data: bytes) -> Any:
    """JSON without floating point, without a name that stands twice; InvalidQueryError where it is other."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError, UnicodeDecodeError) as why:
        if isinstance(why, InvalidQueryError):
            raise
        raise malformed("it is no JSON in UTF-8 with whole numbers alone") from None


def _verify(key: bytes, message: bytes, signature: bytes) -> None:
    check_public(key)
    verify(key, message, signature)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise malformed("a name stands twice in it")
    return found


def _refuse(_: str) -> None:
    raise malformed("it holds a number that is not whole")


def _hex(text: object, length: int) -> bytes:
    try:
        found = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        found = b""
    if len(found) != length or found.hex() != text:
        raise malformed(f"a key or signature is not {2 * length} hexadecimal digits in lower case")
    return found
