"""A city under its charter."""

from __future__ import annotations

from datasov.authority.approval import Signed
from datasov.authority.governance import Governance
from datasov.authority.programme import Approved
from datasov.city.state import State
from datasov.model.charter import Charter
from datasov.model.privacy import Loss
from datasov.tlog.leaves import NoticeLeaf, decode_leaf


class Governed(State):
    """The part of :class:`datasov.City` that the council and the assembly meet."""

    @property
    def charter(self) -> Charter | None:
        """The present charter, or None: then every declared purpose may be asked for."""
        return self._governing.state().charter

    @property
    def programmes(self) -> tuple[Approved, ...]:
        """The programmes under which questions may be asked now."""
        now, state = int(self._clock()), self._governing.state()
        return tuple(state.running(now)) if state.charter is not None and now < state.charter.expires else ()

    @property
    def governance(self) -> Governance:
        """All charters and programmes, also those that are over."""
        return self._governing.state()

    def notices(self) -> list[NoticeLeaf]:
        """The charters, programmes and emergencies as the log has them, with their signatures, oldest first."""
        found = (decode_leaf(body) for body in self._store.read("governance"))
        return [leaf for leaf in found if isinstance(leaf, NoticeLeaf)]

    def adopt(self, charter: Signed | bytes) -> Charter:
        """Take up a charter: the first one on trust, once, every other one as the successor of the one before.

        Raises:
            ProgrammeError, VerificationError: as :meth:`datasov.governing.Governing.adopt`.
        """
        found = self._governing.adopt(charter, int(self._clock()))
        self._anchor()
        return found

    def approve(self, programme: Signed | bytes) -> Approved:
        """Take up a programme that the council and the assembly signed; its identity is what `release` can name.

        Raises:
            ProgrammeError, VerificationError: as :meth:`datasov.governing.Governing.approve`.
        """
        found = self._governing.approve(programme, int(self._clock()), self.purposes, self.budget, self.processing)
        self._anchor()
        return found

    def remaining_under(self, programme: bytes) -> Loss:
        """What questions under a programme may still cost now: of its total, its period, and the city's budget."""
        now, approved = int(self._clock()), self._governing.state().programme(programme)
        return self._ledger.remaining([self._allowed, *approved.programme.purses(programme, now)])
