"""Delegations: who may sign consents for whom, as COSE_Sign1 documents in chains. docs/spec/consent.md.

A chain begins with a delegation that the person signed with their own account key; each further one is signed by the
delegate of the one before and names its identity. A consent under the chain names the identity of the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

from datasov.authority import terms, token
from datasov.authority.coverage import special_of
from datasov.authority.signers import ED25519_ONLY, Directory
from datasov.crypto.sign import SigningKey, check_public
from datasov.errors import ConsentError, InvalidQueryError, VerificationError
from datasov.model.consent import PLACE, Consent, Coverage, check_purpose
from datasov.model.delegation import MAX_CHAIN, Delegated, Delegation, Kind, check, check_covered, check_narrower
from datasov.model.schema import Schema
from datasov.wire import cbor, cose, fields

KIND = "datasov delegation v1"
MAX_TOKEN = 64 * 1024
"""Bytes in a delegation."""
MAX_BUNDLE = (MAX_CHAIN + 1) * MAX_TOKEN + 64
"""Bytes in a consent with its chain."""
MAX_DOMAINS, MAX_TABLES, MAX_COLUMNS, MAX_PURPOSES = 64, 64, 1024, 64
_LABELS = range(1, 20)


def issue(claims: Delegation, key: SigningKey) -> Delegated:
    """The delegation that `key` signs; the claims' delegator is that key's public half.

    Raises:
        ConsentError: claims that contradict themselves, or another delegator.
        VerificationError: a claim of a wrong type or size, or a set that is not in ascending order.
        SignatureError: a key is no point of the group.
    """
    if claims.delegator != key.public:
        raise ConsentError("a delegation is signed by its own delegator: take the key of this domain and controller")
    payload = cbor.encode(_claim_map(claims))
    if _claims(payload) != claims:
        raise VerificationError("the claims do not read back as they were written: give values of the declared types")
    signed = cose.sign1(payload, key, KIND)
    if len(signed) > MAX_TOKEN:
        raise ConsentError("the delegation is longer than 64 KiB: name fewer columns")
    return Delegated(signed, claims, cose.digest1(signed, KIND))


def read(signed: bytes) -> Delegated:
    """The delegation of its bytes: form, keys, signature and every claim are checked; its dates and place are not.

    Raises:
        SignatureError: the signature does not verify, a key is none, or the bytes are not canonical.
        VerificationError: a claim is unknown, missing or of a wrong type or size.
        ConsentError: well-formed claims that contradict themselves.
    """
    if not isinstance(signed, bytes) or len(signed) > MAX_TOKEN:
        raise VerificationError("not a delegation, or longer than 64 KiB: ask its holder for it again")
    parts = cose.parts1(signed, KIND)
    claims = _claims(parts.payload)
    parts.verify(claims.delegator)
    return Delegated(signed, claims, parts.digest)


def read_chain(tokens: Sequence[bytes], now: int) -> tuple[Delegated, ...]:
    """The delegations of a chain, the person's own first: each signed, none wider than the one above, none expired.

    Raises:
        ConsentError: a chain that is too long, spliced, out of order, circular, widened or over.
        VerificationError: (or its subclasses) one of its tokens does not verify.
    """
    if isinstance(tokens, bytes) or not 1 <= len(tokens) <= MAX_CHAIN:
        raise ConsentError("a chain has one to four delegations, the person's own first: pass them all")
    chain = tuple(map(read, tokens))
    if chain[0].claims.parent:
        raise ConsentError("the chain does not begin with the person's own delegation: pass all of it, that one first")
    for above, below in pairwise(chain):
        if below.claims.parent != above.digest:
            raise ConsentError("a delegation names another one above it: pass the chain whole, and in its order")
        check_narrower(below.claims, above.claims)
    keys = [chain[0].claims.subject, *(link.claims.delegate for link in chain)]
    if len(set(keys)) != len(keys):
        raise ConsentError("a key stands twice in a chain: delegate to somebody who is not in it yet")
    for link in chain:
        if now >= min(link.claims.expires, link.claims.handover):
            raise ConsentError("a delegation of the chain is over: ask its delegator for a new one")
    return chain


def verify_chain(tokens: Sequence[bytes], consent: Consent, now: int) -> tuple[Delegated, ...]:
    """The delegations of a chain that allows a consent, whose own signature :func:`token.read` has verified.

    The consent ends no later than every link, so that its own dates are all that need be looked at from then on.

    Args:
        now: Unix seconds.

    Raises:
        As :func:`read_chain`, and ConsentError where the consent is not one of the chain, or goes beyond it.
    """
    chain = read_chain(tokens, now)
    if consent.claims.parent != chain[-1].digest:
        raise ConsentError("the consent names another delegation than the chain ends with: pass the chain it names")
    check_covered(consent.claims, chain[-1].claims)
    return chain


def verified(consent: Consent, now: int) -> tuple[Delegated, ...]:
    """The delegations of a consent that carries its chain; none where the issuer speaks for themselves.

    Raises:
        As :func:`verify_chain`; ConsentError also where a chain is missing, or stands where none is named.
    """
    claims = consent.claims
    if not claims.subject and not claims.parent:
        if consent.chain:
            raise ConsentError("the consent names no delegation: send it without a chain")
        return ()
    if not consent.chain:
        raise ConsentError("a delegated consent travels with its chain: send `delegation.bundle(consent)`")
    return verify_chain(consent.chain, consent, now)


def check_tables(last: Delegation, tables: Sequence[tuple[Schema, Coverage]]) -> None:
    """Raise ConsentError unless a delegation reaches the covered tables' domains, and their special columns by name."""
    if not {schema.domain for schema, _ in tables} <= set(last.domains):
        raise ConsentError("the delegation does not reach the domain of a covered table: cover other tables")
    if not special_of(tables) <= set(last.special):
        raise ConsentError("the delegation does not name a covered column of the special class: cover others alone")


def identity(signed: bytes) -> bytes:
    """The identity of a delegation that :func:`read` accepted before: SHA-256 of what was signed, 32 bytes."""
    return cose.digest1(signed, KIND)


def bundle(consent: Consent) -> bytes:
    """A consent as it travels: its token, or [token, chain] where it is delegated."""
    return cbor.encode([consent.token, list(consent.chain)]) if consent.chain else consent.token


def unbundle(data: bytes | Consent, directory: Directory = ED25519_ONLY) -> Consent:
    """The consent of what :func:`bundle` gave, or of a token alone. Its signature is verified, its chain is not.

    Args:
        directory: the keys of issuers. Those in a chain are Ed25519 keys always.

    Raises:
        As :func:`datasov.authority.token.read`.
    """
    if isinstance(data, Consent):
        return replace(token.read(data.token, directory), chain=data.chain)
    if not isinstance(data, bytes) or len(data) > MAX_BUNDLE:
        raise VerificationError("not a consent, or a longer one than there is: ask its holder for it again")
    if data[:1] != b"\x82":  # an array of two; a token is one of four
        return token.read(data, directory)
    signed, chain = fields.items(cbor.decode(data), 2, 2)
    links = tuple(fields.blob(link, MAX_TOKEN) for link in fields.items(chain, 1, MAX_CHAIN))
    return replace(token.read(fields.blob(signed, token.MAX_TOKEN), directory), chain=links)


def _claim_map(d: Delegation) -> dict[int, Any]:
    return {
        1: d.delegator, 2: d.delegate, 3: d.subject, 4: d.token_id, 5: d.kind, 6: d.audience, 7: list(d.domains),
        8: [[table, names] for table, names in _by_table(d.columns).items()], 9: list(d.special),
        10: list(d.purposes), 11: fields.loss_map(d.loss), 12: d.jurisdiction, 13: d.processing,
        14: d.issued, 15: d.not_before, 16: d.expires, 17: d.handover, 18: d.depth, 19: d.parent,
    }  # fmt: skip


def _claims(payload: bytes) -> Delegation:
    found = fields.labelled(cbor.decode(payload), _LABELS)
    claims = Delegation(
        delegator=_key(found[1]), delegate=_key(found[2]), subject=_key(found[3]), token_id=fields.octets(found[4], 16),
        kind=_kind(found[5]), audience=terms.audience(found[6]),
        domains=_ascending([fields.name(d) for d in fields.items(found[7], 1, MAX_DOMAINS)]),
        columns=_columns(found[8]), special=_ascending([_column(c) for c in fields.items(found[9], 0, 2**16)]),
        purposes=_ascending([_purpose(p) for p in fields.items(found[10], 1, MAX_PURPOSES)]),
        loss=fields.read_loss(found[11]), jurisdiction=_place(found[12]),
        processing="" if found[13] == "" else _place(found[13]),
        issued=fields.integer(found[14], 0, fields.MAX_TIME), not_before=fields.integer(found[15], 0, fields.MAX_TIME),
        expires=fields.integer(found[16], 0, fields.MAX_TIME), handover=fields.integer(found[17], 0, fields.MAX_TIME),
        depth=fields.integer(found[18], 0, MAX_CHAIN - 1),
        parent=b"" if found[19] == b"" else fields.octets(found[19], 32),
    )  # fmt: skip
    check(claims)
    return claims


def _key(value: object) -> bytes:
    public = fields.octets(value, 32)
    check_public(public)
    return public


def _kind(value: object) -> Kind:
    for kind in get_args(Kind):
        if value == kind and type(value) is str:
            return kind  # type: ignore[no-any-return]
    raise VerificationError("a kind of delegation that this version does not know: delegate anew")


def _place(value: object) -> str:
    text = fields.text(value, 6)
    if not PLACE.fullmatch(text):
        raise ConsentError("a place is an ISO 3166 code: write it like 'JP' or 'JP-10'")
    return text


def _purpose(value: object) -> str:
    text = fields.text(value, terms.MAX_PURPOSE)
    try:
        check_purpose(text)
    except InvalidQueryError as why:
        raise ConsentError(str(why)) from None
    return text


def _column(value: object) -> str:
    table, _, name = fields.text(value, 129).partition(".")
    return f"{fields.name(table)}.{fields.name(name)}"


def _columns(value: object) -> tuple[str, ...]:
    tables: list[str] = []
    found: list[str] = []
    for item in fields.items(value, 1, MAX_TABLES):
        table, names = fields.items(item, 2, 2)
        tables.append(fields.name(table))
        names = _ascending([fields.name(n) for n in fields.items(names, 1, MAX_COLUMNS)])
        found += [f"{tables[-1]}.{name}" for name in names]
    _ascending(tables)
    return tuple(found)


def _by_table(columns: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in columns:
        table, _, name = column.partition(".")
        found.setdefault(table, []).append(name)
    return found


def _ascending(values: Sequence[str]) -> tuple[str, ...]:
    """The values of a set, in their one order; VerificationError in another."""
    if list(values) != sorted(set(values)):
        raise VerificationError("a set is not in ascending order: these bytes are not of this format")
    return tuple(values)
