"""What a delegation lets somebody sign for somebody else, as values, and that a later one only ever narrows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from datasov.errors import ConsentError
from datasov.model.consent import Claims, contains
from datasov.model.privacy import Loss

Kind: TypeAlias = Literal["parental", "guardian", "carer"]
MAX_CHAIN = 4
"""Delegations between a person and a consent, at most."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """The claims of a delegation; times are Unix seconds, and sets stand as ascending tuples.

    Attributes:
        delegator: the Ed25519 key that signs: of the first in a chain the subject's, of others the delegate above.
        delegate: the Ed25519 key that may sign consents, 32 bytes.
        subject: whose data it is: the person's own account key for this city and domain, 32 bytes.
        token_id: 16 random bytes.
        kind: "parental" (until majority), "guardian" (of an adult) or "carer" (in one domain).
        audience: the text of the city's id.
        domains: of the tables that may be covered.
        columns: that may be covered, as `table.column`. special: those of them that are of the special class.
        purposes: for which consents may be signed.
        loss: the most that all consents under it may reserve together, over every table and purpose.
        jurisdiction, processing: as in a consent; a consent's lie within them.
        handover: from then on nobody but the subject signs; `expires` is not after it.
        depth: so many delegations may still follow below it, 0 to 3.
        parent: identity of the delegation above, 32 bytes; empty in the first.
    """

    delegator: bytes
    delegate: bytes
    subject: bytes
    token_id: bytes
    kind: Kind
    audience: str
    domains: tuple[str, ...]
    columns: tuple[str, ...]
    special: tuple[str, ...]
    purposes: tuple[str, ...]
    loss: Loss
    jurisdiction: str
    processing: str
    issued: int
    not_before: int
    expires: int
    handover: int
    depth: int = 0
    parent: bytes = b""


@dataclass(frozen=True, slots=True)
class Delegated:
    """A signed delegation: its bytes, its claims, and the hash of what was signed (its identity, 32 bytes)."""

    token: bytes
    claims: Delegation
    digest: bytes


def check(delegation: Delegation) -> None:
    """Raise ConsentError where a delegation contradicts itself."""
    d = delegation
    if not d.issued <= d.not_before < d.expires <= d.handover:
        raise ConsentError(
            "a delegation's times are out of order: issued, valid from, expires, and not after the hand-over"
        )
    if not set(d.special) <= set(d.columns):
        raise ConsentError("a special column of a delegation is one of its columns: name it among these too")
    if d.kind == "carer" and len(d.domains) != 1:
        raise ConsentError("a carer acts in one domain: delegate each domain in a delegation of its own")
    if d.delegate in (d.subject, d.delegator):
        raise ConsentError("a delegate is somebody else: give the key that their `delegate_key` shows")
    if (d.delegator == d.subject) is bool(d.parent):
        raise ConsentError("the first delegation of a chain is signed by the subject, and no other one: delegate anew")


def check_narrower(below: Delegation, above: Delegation) -> None:
    """Raise ConsentError unless the lower of two delegations grants at most what the upper one does."""
    if below.delegator != above.delegate:
        raise ConsentError("a delegation is signed by the delegate of the one above it: pass the chain in its order")
    same = "subject", "audience", "kind"
    wider = [name for name in same if getattr(below, name) != getattr(above, name)]
    wider += [
        name for name in ("domains", "columns", "special", "purposes")
        if not set(getattr(below, name)) <= set(getattr(above, name))
    ]  # fmt: skip
    wider += _wider_place(below.jurisdiction, below.processing, above)
    if not fits(below.loss, above.loss):
        wider.append("loss")
    if below.issued < above.issued:
        wider.append("issued")
    if below.not_before < above.not_before:
        wider.append("not_before")
    wider += [name for name in ("expires", "handover") if getattr(below, name) > getattr(above, name)]
    if not below.depth < above.depth:
        wider.append("depth")
    if wider:
        raise ConsentError(f"a delegation goes beyond the one above it in {', '.join(wider)}: delegate less")


def check_covered(claims: Claims, last: Delegation) -> None:
    """Raise ConsentError unless a delegation allows the consent: what it covers, for whom, where, and for how long."""
    if claims.issuer != last.delegate or claims.subject != last.subject:
        raise ConsentError("the consent is not of the chain's last delegate for its subject: pass the chain it names")
    wider = [] if claims.audience == last.audience else ["audience"]
    if claims.purpose not in last.purposes:
        wider.append("purpose")
    if not {f"{c.table}.{name}" for c in claims.coverage for name in c.columns} <= set(last.columns):
        wider.append("columns")
    if not set(claims.special) <= set(last.special):
        wider.append("special")
    wider += _wider_place(claims.jurisdiction, claims.processing, last)
    if not fits(claims.loss, last.loss):
        wider.append("loss")
    if claims.issued < last.issued or claims.not_before < last.not_before:
        wider.append("not_before")
    if claims.expires > min(last.expires, last.handover):
        wider.append("expires")
    if wider:
        raise ConsentError(f"the consent goes beyond its delegation in {', '.join(wider)}: grant less")


def check_losses(
    chain: Iterable[Delegated], account: str, loss: Loss, reserved: Mapping[bytes, Mapping[str, Loss]]
) -> None:
    """Raise ConsentError where a consent would take the sum under one of its delegations beyond that one's loss.

    Args:
        account: what the consent draws on: one for each city, table and purpose. Of several consents on one account the
            largest counts, as everywhere.
        reserved: what is reserved on each account under each delegation, by its identity.
    """
    for link in chain:
        accounts = reserved.get(link.digest, {})
        after = {**accounts, account: larger(accounts.get(account), loss)}
        if not fits(sum(after.values(), Loss(0, loss.measure)), link.claims.loss):
            raise ConsentError("all consents under a delegation would go beyond its loss: grant less, or revoke it")


def larger(held: Loss | None, new: Loss) -> Loss:
    """The loss that two consents on one account reserve together."""
    if held is None:
        return new
    return Loss(max(held.nano, new.nano), new.measure, max(held.delta, new.delta))


def fits(loss: Loss, most: Loss) -> bool:
    """Whether a loss is of the measure of another, and at most that one."""
    return loss.measure == most.measure and loss <= most


def _wider_place(jurisdiction: str, processing: str, above: Delegation) -> list[str]:
    wider = [] if contains(above.jurisdiction, jurisdiction) else ["jurisdiction"]
    inside = contains(above.processing or above.jurisdiction, processing or jurisdiction)
    return wider if inside else [*wider, "processing"]
