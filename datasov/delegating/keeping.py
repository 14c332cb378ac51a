"""What a vault keeps of delegations, and the keys that it signs with for its own accounts and for other people's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from datasov.authority import delegation, held
from datasov.authority.coverage import check_class, check_special
from datasov.authority.held import HeldDelegation, Record
from datasov.authority.record import ConsentRecord, check_record, make_record
from datasov.crypto.kdf import random, sha256
from datasov.crypto.sign import SigningKey
from datasov.errors import ConsentError
from datasov.model.consent import CityId, Claims, Consent
from datasov.model.delegation import Delegated, Delegation
from datasov.model.purposes import Purpose
from datasov.tlog.whole import Whole
from datasov.vault import Vault


def account_key(vault: Vault, domain: str, city: CityId, public: bytes | None = None) -> SigningKey:
    """A key of its own for each domain and controller: no two of them can be linked by it.

    A city that changed its key, as the vault read in its log, stays one controller: :func:`followed`.

    Args:
        public: of a key that was signed with before; the present one where none of this domain and city is it.
    """
    began = vault.state(held.account_note(str(city)))
    names = [str(city)] if began is None else [began.decode(), str(city)]
    keys = [SigningKey(vault.derive(b"datasov consent key v1 " + domain.encode() + sha256(n.encode()))) for n in names]
    return next((key for key in keys if key.public == public), keys[0])


def followed(vault: Vault, whole: Whole) -> dict[str, bytes | None]:
    """What a log told of its city's ids, as notes that the vault lacks.

    Under an id that nothing was signed for yet, the accounts are those that the vault has under the oldest id that it
    used: one resident under two keys would count twice, and be charged twice.
    """
    operators = whole.operators
    names = [str(city) for city in operators.ids]
    said = sorted(index for index, _ in (*operators.successions, *operators.restorations))
    claims = [r.consent.claims.audience for r in held.unpack(vault.state(held.CONSENTS))]
    used = {*claims, *(d.claims.audience for d in kept(vault) if d.given)}
    began = next((name for name in names if name in used), None)
    statements = held.pack_statements((index, whole.leaves[index]) for index in said)
    notes = {held.operators_note(whole.checkpoint.origin): statements} if said else {}
    if began is not None:
        root = vault.state(held.account_note(began)) or began.encode()
        unused = [held.account_note(name) for name in names if name not in used]
        notes |= {note: root for note in unused if vault.state(note) is None}
    return {name: note for name, note in notes.items() if vault.state(name) != note}


def delegate_key(vault: Vault, domain: str, city: CityId, whom: str) -> SigningKey:
    """The key to sign with for somebody else, one for each domain, controller and person."""
    parts = b"".join(sha256(part.encode()) for part in (domain, str(city), whom))
    return SigningKey(vault.derive(b"datasov delegate key v1 " + parts))


def kept(vault: Vault) -> list[HeldDelegation]:
    """The delegations given and received, oldest first."""
    return held.unpack_delegations(vault.state(held.DELEGATIONS))


def keep(vault: Vault, new: HeldDelegation) -> None:
    """Keep a delegation; one that is kept already is replaced."""
    found = {d.digest: d for d in kept(vault)}
    found[new.digest] = new
    vault.set_state({held.DELEGATIONS: held.pack_delegations(found.values())})


def give(vault: Vault, above: Sequence[bytes], claims: Delegation, key: SigningKey, now: int) -> tuple[bytes, ...]:
    """Sign a delegation below a chain, and keep it: the whole chain."""
    chain = (*above, delegation.issue(claims, key).token)
    delegation.read_chain(chain, now)
    keep(vault, HeldDelegation(chain, True, random(32)))
    return chain


def received(
    vault: Vault, tokens: Sequence[bytes], now: int, whom: str = ""
) -> tuple[tuple[Delegated, ...], SigningKey, str]:
    """The delegations of a chain that ends with one to a key of this vault, kept from now on; that key, and its domain.

    Raises:
        ConsentError: it is to somebody else, over, or was revoked here. VerificationError: it does not verify.
    """
    chain = delegation.read_chain(tokens, now)
    last = chain[-1]
    known = next((d for d in kept(vault) if d.digest == last.digest), None)
    if known is not None and known.revoked:
        raise ConsentError("this delegation was revoked: ask for a new one")
    whom = known.whom if known is not None else whom
    for domain in last.claims.domains:
        key = delegate_key(vault, domain, CityId.parse(last.claims.audience), whom)
        if key.public == last.claims.delegate:
            if known is None:
                keep(vault, HeldDelegation(tuple(tokens), False, random(32), whom))
            return chain, key, domain
    raise ConsentError(
        "the chain does not end with a delegation to a key of this vault: `receive` it with the `whom` of that key"
    )


def majority(vault: Vault) -> int | None:
    """The earliest hand-over of the parental delegations that this vault's person gave, revoked ones too."""
    roots = (delegation.read(d.chain[0]).claims for d in kept(vault) if d.given and len(d.chain) == 1)
    return min((root.handover for root in roots if root.kind == "parental"), default=None)


def account_domain(vault: Vault, claims: Delegation) -> str:
    """The domain of this vault's account that a delegation is about; ConsentError where it is about none of them."""
    city = CityId.parse(claims.audience)
    for domain in _domains(vault, claims):
        if account_key(vault, domain, city, claims.subject).public == claims.subject:
            return domain
    raise ConsentError("it is about an account of somebody else: give it to the person whose data it is")


def revoking_key(vault: Vault, claims: Delegation) -> SigningKey:
    """The key of this vault that may end a delegation: of its subject, or of who signed it; or ConsentError."""
    city = CityId.parse(claims.audience)
    names = dict.fromkeys(["", *(d.whom for d in kept(vault))])
    for domain in _domains(vault, claims):
        mine = account_key(vault, domain, city, claims.subject)
        if mine.public == claims.subject:
            return mine
        for whom in names:
            key = delegate_key(vault, domain, city, whom)
            if key.public == claims.delegator:
                return key
    raise ConsentError("only whose account it is, and who signed it, end a delegation: ask one of them")


def _domains(vault: Vault, claims: Delegation) -> Iterator[str]:
    """Where a key that a delegation names may come from: the account's domain need not be among those passed on."""
    above = (delegation.read(d.chain[0]).claims for d in kept(vault) if d.claims.subject == claims.subject)
    found = [*claims.domains, *(s.domain for s in vault.tables().values()), *(d for c in above for d in c.domains)]
    return iter(dict.fromkeys(found))


def check_known(vault: Vault, claims: Claims, last: Delegation, domain: str) -> None:
    """Raise ConsentError unless a consent's first table is the vault's, of the account's domain, and all are delegated.

    Its special columns must be those that it names, also of tables that are only read: no city can tell.

    Of tables that are only read, those that the vault does not know have no rows that anything could be derived from.
    """
    tables = vault.tables()
    found = [
        (schema, covered) for covered in claims.coverage if covered.table in tables
        for schema in (tables[covered.table], *vault.earlier(covered.table)) if schema.digest == covered.schema_digest
    ]  # fmt: skip
    base = claims.coverage[0]
    if not found or found[0][1] != base:
        raise ConsentError(f"put rows of table {base.table!r} first, under the schema that the consent names")
    if found[0][0].domain != domain:
        raise ConsentError("the consent's first table is of another domain than the account: have it signed anew")
    delegation.check_tables(last, found)
    check_special(found, claims.special)
    check_class(found, tables)


def told(claims: Claims, record: ConsentRecord | bytes | None) -> dict[str, bytes | None]:
    """The note of what the purpose of a consent is called, once its record is the one that it was signed with.

    Raises:
        ConsentError: it was signed with a record that is not given. VerificationError: it was signed with another one.
    """
    if not claims.record:
        return {}
    plain = make_record(claims, Purpose(claims.purpose))
    if record is None and plain.digest != claims.record:
        raise ConsentError("the consent was signed with a record: ask the delegate for it, read it, and pass it here")
    purpose = check_record(plain if record is None else record, claims).document["purpose"]
    named = Purpose(purpose["name"], purpose["within"], purpose["ja"], purpose["en"])
    return held.called(claims.record, named)


def find(vault: Vault, consent: Consent) -> tuple[Record, bool]:
    """The record of a consent, and whether this vault signed it for somebody else; ConsentError where it has none."""
    for name in (held.CONSENTS, held.SIGNED):
        for record in held.unpack(vault.state(name)):
            if record.digest == consent.digest:
                return record, name == held.SIGNED
    raise ConsentError("not a consent of this vault: grant one first")


def ending(vault: Vault, consent: Consent) -> tuple[Record, SigningKey]:
    """The record of a consent that this vault holds or signed for somebody else, and the key that revokes it."""
    record, signed = find(vault, consent)
    claims, city = record.consent.claims, CityId.parse(record.consent.claims.audience)
    if not signed:
        return record, account_key(vault, record.domain, city, claims.account)
    for whom in dict.fromkeys(["", *(d.whom for d in kept(vault))]):
        key = delegate_key(vault, record.domain, city, whom)
        if key.public == claims.issuer:
            return record, key
    raise ConsentError("another vault signed this consent: revoke it there, or with the vault of the person")


def end(vault: Vault, consents: Iterable[bytes]) -> None:
    """Note that the consents with these digests are revoked."""
    ended = set(consents)
    values: dict[str, bytes | None] = {}
    for name in (held.CONSENTS, held.SIGNED):
        records = held.unpack(vault.state(name))
        if any(r.consent.digest in ended for r in records):
            values[name] = held.pack(replace(r, revoked=r.revoked or r.consent.digest in ended) for r in records)
    vault.set_state(values)


def end_under(vault: Vault, ended: bytes) -> None:
    """Note that all consents under the delegation with this identity are revoked."""
    records = (r for name in (held.CONSENTS, held.SIGNED) for r in held.unpack(vault.state(name)))
    end(vault, [r.consent.digest for r in records if ended in r.links])
