"""A city under its charter: what it adopted and approved, kept and noticed in one transaction, and what that allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from datasov.authority.approval import Signed
from datasov.authority.charter import check_first, read_charter
from datasov.authority.governance import Governance
from datasov.authority.programme import Approved, read_programme
from datasov.errors import ConflictError, InternalError, InvalidQueryError, ProgrammeError, StoreError
from datasov.model.charter import Charter
from datasov.model.consent import CityId, contains
from datasov.model.plan import Request
from datasov.model.privacy import Loss
from datasov.model.suggest import MOST_KEYS, MOST_ROWS
from datasov.tlog.leaves import NoticeLeaf, decode_leaf, encode_leaf


class Store(Protocol):
    """Streams with compare-and-append: `governance` has the notices that the city acts on, `log` has them for all."""

    def read(self, stream: str, after: int = 0, limit: int = -1) -> Sequence[bytes]: ...
    def append(self, batch: Mapping[str, tuple[int, Sequence[bytes]]]) -> None: ...
    def length(self, stream: str) -> int: ...


def check_founding(document: Signed | bytes, city: CityId, now: int) -> None:
    """Raise unless a city of this id may be founded under the charter; errors as :meth:`Governing.adopt`."""
    _check_own(check_first(_read(document), now), city, first=True)


class Governing:
    """The governance of one city, as any of its processes and threads sees it."""

    def __init__(self, store: Store, city: CityId) -> None:
        self._store, self._city = store, city
        self._state, self._read, self._lock = Governance(), 0, threading.RLock()

    def state(self) -> Governance:
        """What stands now. Each notice is verified again as it is read."""
        with self._lock:
            for body in self._store.read("governance", self._read):
                leaf = decode_leaf(body)
                if not isinstance(leaf, NoticeLeaf):
                    raise InternalError("the city's governance holds what is no notice: please report it")
                self._state = self._state.noticed(leaf.subject, leaf.time, leaf.identity, leaf.body)
                self._read += 1
            return self._state

    def adopt(self, document: Signed | bytes, now: int) -> Charter:
        """Take up the first charter, or the successor of the present one, durably, with its notice in the log.

        Raises:
            ProgrammeError: of another city, without this city's key, not signed by the thresholds it needs, a version
                that does not follow, not in force.
            VerificationError: (or its subclasses) not a charter, or a signature does not verify.
        """
        signed = _read(document)
        _check_own(read_charter(signed), self._city, first=self.state().charter is None)
        return self._enter("charter", signed, now).charters[-1]

    def approve(
        self, document: Signed | bytes, now: int, purposes: Sequence[str], budget: Loss, place: str
    ) -> Approved:
        """Take up a programme, durably, with its notice in the log.

        Args:
            purposes, budget, place: that the city declares, has, and processes in.

        Raises:
            ProgrammeError: no charter in force, not signed by the thresholds it needs, or what does not fit the city.
            VerificationError: (or its subclasses) not a programme, or a signature does not verify.
        """
        signed = _read(document)
        programme = read_programme(signed)
        if programme.purpose not in purposes:
            raise ProgrammeError("the programme's purpose is none that this city declares: see city.purposes")
        if not contains(programme.processing, place):
            raise ProgrammeError(f"the city processes in {place}, and the programme allows {programme.processing}")
        if programme.total.measure != budget.measure:
            raise ProgrammeError(f"the city's budget is in {budget.measure}: give the total and period losses in that")
        return self._enter("emergency" if programme.emergency else "programme", signed, now).approved[-1]

    def _enter(self, subject: str, document: Signed, now: int) -> Governance:
        leaf = encode_leaf(NoticeLeaf(subject, now, document.identity, document.to_bytes()))
        while True:
            with self._lock:
                state = self.state()
                state.noticed(subject, now, document.identity, document.to_bytes())
                log = self._store.length("log")
                try:
                    self._store.append({"governance": (self._read, [leaf]), "log": (log, [leaf])})
                except ConflictError:
                    continue
                return self.state()

    def under(
        self, request: Request, wanted: bytes | str | None, now: int, stored: Callable[[bytes], bytes | None]
    ) -> tuple[Request, bool]:
        """The request under the programme that covers it, and whether that still runs; errors as `covering`.

        A series that was opened goes on under the programme under which it was opened, or under none.

        Args:
            stored: what is stored under a request's key, or None.
        """
        state = self.state()
        if wanted is None and request.series is not None and state.charter is not None:
            for each in state.approved:
                if each.programme.refusal(request) is None and stored(_placed(request, each, now).key) is not None:
                    wanted = each.identity
        if wanted is None and state.goes_on(request, now) and stored(request.key) is not None:
            return request, True
        found = state.covering(request, now, _identity(wanted))
        if found is None:
            return request, True
        if now < found.starts:
            raise ProgrammeError("the programme has not started yet: see city.programmes")
        return _placed(request, found, now), now < state.end(found)

    def bounds(self, purpose: str, wanted: bytes | str | None, now: int) -> tuple[tuple[int, int], bool]:
        """The largest bounds that a programme for a purpose lets a question have, and whether it has a cohort."""
        state = self.state()
        named = _identity(wanted)
        found = [state.programme(named)] if named else list(state.running(now))
        for programme in (a.programme for a in found):
            if programme.purpose == purpose and programme.template is not None:
                rows, keys = programme.template.rows, programme.template.bound_keys
                return (min(rows, MOST_ROWS), min(keys, MOST_KEYS)), programme.cohort > 0
        return (MOST_ROWS, MOST_KEYS), False

    def check_same(self, document: Signed | bytes) -> None:
        """Raise StoreError unless the city was founded under this charter."""
        if _read(document).identity != self.state().first:
            raise StoreError("the city's first charter is another one: open it without naming one")


def _placed(request: Request, found: Approved, now: int) -> Request:
    purses = (*request.purses, *found.programme.purses(found.identity, now))
    return replace(request, programme=found.identity.hex(), purses=purses, cohort=found.programme.cohort)


def _identity(wanted: bytes | str | None) -> bytes | None:
    try:
        found = bytes.fromhex(wanted) if isinstance(wanted, str) else wanted
    except ValueError:
        found = b""
    if found is not None and (not isinstance(found, bytes) or len(found) != 32):
        raise InvalidQueryError("programme is the identity of an approved one, 32 bytes: see city.programmes")
    return found


def _read(document: Signed | bytes) -> Signed:
    return document if isinstance(document, Signed) else Signed.from_bytes(document)


def _check_own(charter: Charter, city: CityId, *, first: bool) -> None:
    if first and charter.city != str(city):
        raise ProgrammeError("the charter is of another city: give one that names this city's id")
    if city.verify_key not in {m.key for m in charter.operators}:
        raise ProgrammeError("the charter does not name this city's key among its operators")
