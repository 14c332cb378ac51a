"""Who may approve a programme: thresholds of both groups of the charter, higher ones in an emergency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasov.authority.approval import Signed, signers
from datasov.authority.charter import missing
from datasov.errors import InvalidQueryError, ProgrammeError, VerificationError
from datasov.model.charter import DAY, Charter
from datasov.model.programme import PROGRAMME, Programme


@dataclass(frozen=True, slots=True)
class Approved:
    """A programme that both groups approved.

    Attributes:
        identity: 32 bytes: what releases and leaves refer to it by.
        time: when the city took it up, in Unix seconds.
        starts: from when on questions may be asked under it.
    """

    programme: Programme
    identity: bytes
    time: int
    starts: int


def read_programme(document: Signed) -> Programme:
    """The programme of a signed document; who signed it is not looked at. VerificationError where it is none."""
    if document.kind != PROGRAMME:
        raise VerificationError("the document is no programme: give the one that `datasov programme collect` wrote")
    try:
        return Programme.from_document(document.document)
    except InvalidQueryError as why:
        raise VerificationError(str(why)) from None


def check_approval(charter: Charter, document: Signed, before: Sequence[Approved], now: int) -> Approved:
    """The programme of a document, once it is approved under a charter and follows those approved before.

    Raises:
        ProgrammeError: of another city or charter, signatures missing, over, a version that does not follow, an
            emergency that lasts too long or comes too soon after the last one.
        VerificationError: (or its subclasses) not a programme, or a signature does not verify.
    """
    programme = read_programme(document)
    if programme.city != charter.city or programme.charter != charter.version:
        raise ProgrammeError(
            f"the programme is not under the city's present charter, version {charter.version}: name that in it"
        )
    for group, count in missing(charter, signers(document), emergency=programme.emergency).items():
        if count:
            raise ProgrammeError(f"{count} more of the {group} must sign the programme: collect their signatures")
    same = [a.programme.version for a in before if a.programme.name == programme.name]
    if same and programme.version <= max(same):
        raise ProgrammeError(f"version {max(same)} of this programme was approved: a later one has a higher number")
    starts = max(programme.not_before, now + (0 if programme.emergency else charter.notice_days * DAY))
    if programme.issued > now or programme.expires <= starts:
        raise ProgrammeError("the programme is issued in the future, or over before it starts: issue it anew")
    if programme.emergency:
        _check_emergency(charter, programme, before, now, starts)
    return Approved(programme, document.identity, now, starts)


def _check_emergency(charter: Charter, programme: Programme, before: Sequence[Approved], now: int, starts: int) -> None:
    """An emergency ends within the charter's days of its approval, and no other one follows until as long after it."""
    longest = charter.emergency_days * DAY
    if not longest:
        raise ProgrammeError("the charter foresees no emergencies: approve an ordinary programme")
    if programme.expires > now + longest:
        raise ProgrammeError(f"an emergency ends within {charter.emergency_days} days of its approval: shorten it")
    for last in before:
        if last.programme.emergency and starts < last.programme.expires + longest:
            raise ProgrammeError(
                f"an emergency programme follows another one only {charter.emergency_days} days after that one's end: "
                "approve an ordinary programme"
            )
