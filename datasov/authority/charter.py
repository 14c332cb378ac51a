"""Who may adopt a charter: its own thresholds, and those of the one before. docs/spec/charter.md."""

from __future__ import annotations

from datasov.authority.approval import Signed, short, signers
from datasov.crypto.sign import check_public
from datasov.errors import InvalidQueryError, ProgrammeError, VerificationError
from datasov.model.charter import CHARTER, Charter


def read_charter(document: Signed) -> Charter:
    """The charter of a signed document; who signed it is not looked at.

    Raises:
        VerificationError: another kind of document, or one that is no charter.
        SignatureError: a key in it is no point of the prime-order group.
    """
    if document.kind != CHARTER:
        raise VerificationError("the document is no charter: give the one that `datasov charter collect` wrote")
    try:
        charter = Charter.from_document(document.document)
    except InvalidQueryError as why:
        raise VerificationError(str(why)) from None
    for member in (*charter.council.members, *charter.assembly.members, *charter.operators):
        check_public(member.key)
    return charter


def check_first(document: Signed, now: int) -> Charter:
    """The first charter of a city, once both its groups signed it and it is in force.

    Raises:
        ProgrammeError: not version 1, signatures missing, expired, or not issued yet.
        VerificationError: (or its subclasses) as :func:`read_charter`, or a signature does not verify.
    """
    charter = read_charter(document)
    if charter.version != 1:
        raise ProgrammeError("a city's first charter has version 1: adopt that, then its successors in order")
    _check_signed(charter, charter, document)
    _check_time(charter, now)
    return charter


def check_successor(old: Charter, document: Signed, now: int) -> Charter:
    """The charter that follows another, once both groups of both charters signed it, by the thresholds of each.

    Raises:
        ProgrammeError: of another city, not the next version, issued before the old one, signatures missing, expired,
            or not issued yet.
        VerificationError: (or its subclasses) as :func:`check_first`.
    """
    charter = read_charter(document)
    if charter.city != old.city:
        raise ProgrammeError("the charter is of another city: give one that names the id in the charter before")
    if charter.version != old.version + 1:
        raise ProgrammeError(
            f"the charter has version {charter.version}, and the next one is {old.version + 1}: none is skipped, "
            "repeated or taken back"
        )
    if charter.issued < old.issued:
        raise ProgrammeError("the charter was issued before the one that it follows: issue it anew")
    _check_signed(old, charter, document)
    _check_signed(charter, charter, document)
    _check_time(charter, now)
    return charter


def missing(charter: Charter, by: frozenset[bytes], *, emergency: bool = False) -> dict[str, int]:
    """How many keys of each group are still missing."""
    return {
        name: short(group.keys, group.emergency if emergency else group.threshold, by) for name, group in charter.groups
    }


def _check_signed(whose: Charter, charter: Charter, document: Signed) -> None:
    for group, count in missing(whose, signers(document)).items():
        if count:
            raise ProgrammeError(
                f"{count} more of the {group} of charter {whose.version} must sign charter {charter.version}: "
                "collect their signatures"
            )


def _check_time(charter: Charter, now: int) -> None:
    if not charter.issued <= now < charter.expires:
        raise ProgrammeError("the charter is not in force now: issue one that is")
