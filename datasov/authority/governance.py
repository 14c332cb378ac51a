"""What a city's charters and programmes allow at a time: a value, built up from public documents in their order.

A city builds it from what it adopted, a resident from the notices in the log: both by the same steps, so that what the
city lets itself do is what everybody can check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from datasov.authority.approval import Signed
from datasov.authority.charter import check_first, check_successor
from datasov.authority.programme import Approved, check_approval
from datasov.errors import ProgrammeError, ProofError
from datasov.model.charter import DAY, Charter
from datasov.model.plan import Request
from datasov.model.programme import Programme, fits

NOTICES = ("charter", "programme", "emergency")
"""Subjects of the notices that :meth:`Governance.noticed` reads."""


@dataclass(frozen=True, slots=True)
class Governance:
    """The charters of a city, the newest last, and the programmes that were approved, in order.

    Attributes:
        adopted: when each charter was taken up, in Unix seconds.
        withdrawn: programmes that a charter ended, by identity, and when.
        first: identity of the first charter, 32 bytes; empty where there is none.
    """

    charters: tuple[Charter, ...] = ()
    adopted: tuple[int, ...] = ()
    approved: tuple[Approved, ...] = ()
    withdrawn: Mapping[bytes, int] = field(default_factory=dict)
    first: bytes = b""

    @property
    def charter(self) -> Charter | None:
        """The present charter, also where it is expired."""
        return self.charters[-1] if self.charters else None

    def adopt(self, document: Signed, now: int) -> Governance:
        """With one more charter; errors as :func:`check_first` and :func:`check_successor`."""
        old = self.charter
        new = check_first(document, now) if old is None else check_successor(old, document, now)
        return replace(
            self, charters=(*self.charters, new), adopted=(*self.adopted, now), first=self.first or document.identity,
            withdrawn={**dict.fromkeys(new.withdrawn, now), **self.withdrawn},
        )  # fmt: skip

    def approve(self, document: Signed, now: int) -> Governance:
        """With one more programme; ProgrammeError without a charter in force, else as :func:`check_approval`."""
        approved = check_approval(self.in_force(now), document, self.approved, now)
        return replace(self, approved=(*self.approved, approved))

    def noticed(self, subject: str, time: int, identity: bytes, body: bytes) -> Governance:
        """With what a notice in the log says.

        Raises:
            ProofError: its identity or subject is not that of its document.
            ProgrammeError, VerificationError: what it says was not signed as it must be.
        """
        document = Signed.from_bytes(body)
        if document.identity != identity or document.to_bytes() != body:
            raise ProofError("a notice that is not what it says: keep the log's checkpoint, the city is at fault")
        after = self.adopt(document, time) if subject == "charter" else self.approve(document, time)
        if subject != "charter" and after.approved[-1].programme.emergency != (subject == "emergency"):
            raise ProofError("an emergency that is noticed as none: keep the log's checkpoint, the city is at fault")
        return after

    def in_force(self, now: int) -> Charter:
        """The present charter; ProgrammeError where there is none, or it is expired."""
        charter = self.charter
        if charter is None:
            raise ProgrammeError("the city has no charter: adopt one first")
        if now >= charter.expires:
            raise ProgrammeError("the city's charter is expired, and allows nothing but its own successor")
        return charter

    def at(self, time: int) -> Charter | None:
        """The charter that was the present one at a time, or None where there was none yet."""
        return next(
            (c for c, since in zip(self.charters[::-1], self.adopted[::-1], strict=True) if since <= time), None
        )

    def running(self, now: int) -> Iterator[Approved]:
        """The programmes under which questions may be asked now, in the order of their approval."""
        for each in self.approved:
            if each.starts <= now < self.end(each):
                yield each

    def end(self, approved: Approved) -> int:
        """When a programme ends: at its sunset, when a later version starts, or when a charter withdrew it."""
        name, version = approved.programme.name, approved.programme.version
        later = [a.starts for a in self.approved if a.programme.name == name and a.programme.version > version]
        withdrawn = self.withdrawn.get(approved.identity, approved.programme.expires)
        return min([approved.programme.expires, withdrawn, *later])

    def programme(self, identity: bytes) -> Approved:
        """The approved programme of this identity; ProgrammeError where there is none."""
        for each in self.approved:
            if each.identity == identity:
                return each
        raise ProgrammeError("no such programme was approved: see city.programmes")

    def covering(self, request: Request, now: int, wanted: bytes | None = None) -> Approved | None:
        """The programme that covers a question: `wanted`, or the first that runs; None where none is needed.

        It reads public input alone: the question and its plan, the loss, the purpose, the clock and the documents.

        Raises:
            ProgrammeError: none covers it and the charter does not leave it open, or not the wanted one.
        """
        if self.charter is None and wanted is None:
            return None
        charter = self.in_force(now)
        if wanted is not None:
            found = self.programme(wanted)
            _check(found.programme, request)
            return found
        reasons = []
        for each in self.running(now):
            why = each.programme.refusal(request)
            if why is None:
                return each
            reasons += [f"{each.programme.name}: {why}"] if each.programme.purpose == request.purpose else []
        if _left_open(charter, request):
            return None
        raise ProgrammeError(
            "no approved programme that runs now covers this question" + "".join(f"; {r}" for r in reasons[:3])
        )

    def goes_on(self, request: Request, now: int) -> bool:
        """Whether a series that was opened under no programme may go on so, also where one would cover it by now."""
        if request.series is None or request.programme or self.charter is None:
            return False
        return now < self.charter.expires and _left_open(self.charter, request)

    def check(self, request: Request, now: int) -> None:
        """Raise ProgrammeError unless a request that says under which programme it is may be answered anew now."""
        wanted = bytes.fromhex(request.programme) or None
        if self.goes_on(request, now):
            return
        found = self.covering(request, now, wanted)
        if (found is not None) != (wanted is not None):
            raise ProgrammeError("a programme covers this question: ask under it")
        if found is not None:
            if not found.starts <= now < self.end(found):
                raise ProgrammeError("the programme does not run now: see city.programmes")
            if request.cohort != found.programme.cohort or not _charged(request, found, now):
                raise ProgrammeError("the question is not charged as its programme says: ask it anew")

    def retained(self, programme: str, time: int, now: int) -> bool:
        """Whether a release of this time, under this programme, may still be answered from the store."""
        if not programme:
            return True
        days = self.programme(bytes.fromhex(programme)).programme.retention_days
        return now < time + days * DAY


def _left_open(charter: Charter, request: Request) -> bool:
    return any(request.purpose == purpose and fits(request.loss, limit) for purpose, limit in charter.open)


def _check(programme: Programme, request: Request) -> None:
    why = programme.refusal(request)
    if why is not None:
        raise ProgrammeError(f"the programme does not cover this question: {why}")


def _charged(request: Request, found: Approved, now: int) -> bool:
    return set(found.programme.purses(found.identity, now)) <= set(request.purses)
