"""What a resident checks: the public logs of cities that they granted consents to."""

from __future__ import annotations

from collections.abc import Iterable

from datasov import receipts
from datasov.admitted import Sent, ended, told
from datasov.authority import held
from datasov.authority.held import Record
from datasov.delegating import followed
from datasov.erased import Erasure, erased
from datasov.errors import ProofError, StoreError
from datasov.model.consent import CityId, Consent
from datasov.mpc.listed import Listed
from datasov.notices import Notice, read_notices
from datasov.resident.state import State, numbered
from datasov.tlog import scan
from datasov.tlog.evidence import Evidence, compare_under
from datasov.tlog.log import LogReader
from datasov.tlog.note import Checkpoint, open_checkpoint, peek_checkpoint
from datasov.tlog.operators import Appointed, Operators, decoded, follow
from datasov.tlog.receipt import Receipt
from datasov.tlog.tree import verify_consistency
from datasov.tlog.whole import Whole, signed_by


class Watching(State):
    """The part of :class:`datasov.Resident` that reads logs."""

    def receipts(
        self, log: LogReader, *, accept_rollback: bool = False, appointed: Appointed | None = None
    ) -> list[Receipt]:
        """Every released question that one of this vault's consents covered when it was asked, from the whole log.

        A series is one of them where a consent covered it at its opening or later: its loss is that of all its steps.

        All leaves are read and filtered here, so that the log never learns which ones matter to whom. The checkpoint
        is compared with the one remembered from before, for each city: a log that forgot or rewrote anything, or is of
        no city that holds a consent, is a ProofError. Where the operator changed its key, the log must hold a statement
        that the key before it signed, or that `appointed` (of its bytes) says a charter made. A log that holds a
        contribution of this vault that the vault does not know of shows that it was put back to an older copy: a
        StoreError, unless you `accept_rollback`.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        self._not_rolled_back(whole, mine, accept_rollback)
        return receipts.covered(whole, mine)

    def erasures(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Erasure]:
        """The contributions of this vault of which the city's log says that their rows were erased, oldest first.

        The log and its checkpoint are treated as :meth:`receipts` does, and each notice found is proved to be in it.

        Raises:
            ProofError: as there.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        return erased(whole, [(r, self._contributed(r.consent)) for r in mine])

    def sent(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Sent]:
        """Of every contribution of this vault, whether the city's log tells that it was admitted, oldest first.

        It is how a city answers what it was sent: in public, to everybody alike, with salted hashes that only this
        vault can tell. The log and its checkpoint are treated as :meth:`receipts` does.

        Raises:
            ProofError: as there.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        return told(whole, [(r, self._contributed(r.consent)) for r in mine])

    def ended(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Consent]:
        """The revoked consents of this vault of which the city's log tells that the city ended them, oldest first.

        One that you revoked and that is not among them some hours later did not reach the city: send its revocation
        once more. The log and its checkpoint are treated as :meth:`receipts` does. An end by a delegation's, or by a
        later consent's, is not told of for the consent itself.

        Raises:
            ProofError: as there.
        """
        if not self._records():
            return []
        whole, mine = self._whole(log, appointed)
        return ended(whole, mine, self._clock())

    def notices(self, log: LogReader, *, appointed: Appointed | None = None) -> list[Notice]:
        """The charters, programmes and emergencies of a city in which this vault holds a consent, from its whole log.

        Each is checked to be signed as the charters before it demand, and every release to be covered by one of them:
        see :func:`datasov.notices.read_notices`.

        Raises:
            ProofError: the log forgot or rewrote something, is of no such city, or tells of what nobody approved.
        """
        if not self._records():
            raise ProofError("not the log of a city that you granted a consent to: ask that city for its log")
        whole, _ = self._whole(log, appointed)
        return read_notices(whole.leaves, whole.checkpoint, whole.operators.ids[-1])

    def operators(self, log: LogReader, *, appointed: Appointed | None = None) -> Operators:
        """Who has run a city in which this vault holds a consent, from its whole log: its ids, and its restorations.

        A restoration went on from an older copy: what the city spent after that could be spent once more.

        Raises:
            ProofError: as :meth:`notices`.
        """
        if not self._records():
            raise ProofError("not the log of a city that you granted a consent to: ask that city for its log")
        return self._whole(log, appointed)[0].operators

    def checkpoints(self) -> dict[str, bytes]:
        """The signed note of each city's log that was last seen, by the city's id: to show to others who compare."""
        cities = dict.fromkeys(r.consent.claims.audience for r in self._records())
        notes = {city: self._vault.state(held.log_note(city)) for city in cities}
        return {city: note for city, note in notes.items() if note is not None}

    def compare(self, note: bytes, log: LogReader | None = None) -> Evidence | None:
        """Another person's checkpoint beside the one last seen of that log: None, or evidence that the log forked.

        Args:
            note: what they saw, as :meth:`checkpoints` gives it.
            log: a reader of the larger of the two trees, where their sizes differ.

        Raises:
            ProofError: of no city whose log this vault has seen, not signed by it, or nothing is shown either way.
        """
        origin = peek_checkpoint(note).origin
        seen = next((n for n in self.checkpoints().values() if peek_checkpoint(n).origin == origin), None)
        if seen is None:
            raise ProofError(
                "not a checkpoint of a log that this vault has seen: ask that city for your receipts first"
            )
        said = held.unpack_statements(self._vault.state(held.operators_note(origin)))
        cities = map(CityId.parse, self.checkpoints())
        # What the vault keeps was accepted when it was read, also where a charter appointed an operator.
        operators = follow(decoded(said), origin, cities, appointed=lambda _: True)
        return compare_under(seen, note, [c.verify_key for c in operators.ids], log, origin)

    def tasks(self, listed: bytes, log: LogReader | None = None, *, city: CityId | None = None) -> list[bytes]:
        """The open tasks that a city's gateway lists (`Remote.tasks`), each shown to stand in the city's log.

        So a city that asks one person something of their own has to ask it in public. The checkpoint under which they
        stand is compared with the one that this vault saw last of that log, and kept in its place where it is newer.
        Answer each of them, also where no consent covers it.

        Args:
            log: shows how the log grew from one checkpoint to the other. That it is asked how, tells where it ended
                when the vault last saw it.
            city: whose tasks, where no consent of this vault is for it: an id that you have from elsewhere.

        Raises:
            ProofError: not signed by a key that this vault knows the city by, not of the log that it saw, or a task is
                not in it: answer none of them, and keep what was given.
            VerificationError: a task that its city did not sign.
        """
        found = Listed.from_bytes(listed)
        origin = peek_checkpoint(found.note).origin
        said = decoded(held.unpack_statements(self._vault.state(held.operators_note(origin))))
        known = [*receipts.cities(self._records()), *([] if city is None else [city])]
        # What the vault keeps was accepted when it was read, also where a charter appointed an operator.
        operators = follow(said, origin, known, appointed=lambda _: True)
        if city is not None and not operators.known(city):
            raise ProofError("the tasks of another city: check the gateway's address")
        checkpoint = open_checkpoint(found.note, origin, operators.key)
        names = [held.log_note(str(each)) for each in operators.ids]
        seen = {note for name in names if (note := self._vault.state(name)) is not None}
        grew = [self._grew(note, checkpoint, operators, log) for note in seen]
        tasks = found.verified(checkpoint)
        if not all(operators.known(CityId.parse(task.city)) for task in tasks):
            raise ProofError("a task of another city than the log's: answer none of them")
        if all(grew) and seen != {checkpoint.note}:
            self._vault.set_state(dict.fromkeys(names, checkpoint.note))
        now = int(self._clock())
        pairs = zip(found.entries, tasks, strict=True)
        return list(dict.fromkeys(entry.task for entry, task in pairs if now < task.until))

    def _grew(self, note: bytes, new: Checkpoint, operators: Operators, log: LogReader | None) -> bool:
        """Whether the checkpoint is no older than one seen before; ProofError where they are not of one log."""
        old = signed_by(note, new.origin, operators.ids)
        if old.size == new.size and old.root == new.root:
            return True
        first, second = sorted((old, new), key=lambda c: c.size)
        if first.size:
            if log is None and first.size < second.size:
                raise ProofError("the log grew since this vault saw it: give the log, which shows how")
            path = log.consistency(first.size, second.size) if log is not None else []
            verify_consistency(first.size, second.size, first.root, second.root, path)
        return new.size >= old.size

    def bundle(self, log: LogReader, *, consents: bool = False, appointed: Appointed | None = None) -> bytes:
        """The receipts in one file, for :func:`datasov.tlog.bundle.verify_bundle`: whoever has it needs no log.

        Args:
            consents: also name the consents that covered them, by their identities.

        Raises:
            ProofError: as :meth:`receipts`, or a release names an approval that the log does not hold.
        """
        if not self._records():
            raise ProofError("no consent was granted, so there are no receipts")
        whole, mine = self._whole(log, appointed)
        return receipts.bundle(whole, mine, consents=consents)

    def _whole(self, log: LogReader, appointed: Appointed | None) -> tuple[Whole, list[Record]]:
        """The whole log, verified and remembered, and the consents to its city."""
        records = self._records()
        whole = receipts.whole_log(log, records, appointed)
        mine = receipts.of_city(whole, records)
        self._remember(whole, mine)
        return whole, mine

    def _remember(self, whole: Whole, mine: Iterable[Record]) -> None:
        """Check that the log only grew since it was last seen, and keep the new checkpoint."""
        names = [held.log_note(str(c)) for c in receipts.cities(mine)]
        seen = [self._vault.state(name) for name in names]
        receipts.continues(whole, seen)
        note, told = whole.checkpoint.note, followed(self._vault, whole)
        over = self._over(whole, mine)
        if told or over or any(old != note for old in seen):
            self._vault.set_state({**dict.fromkeys(names, note), **told, **over})

    def _over(self, whole: Whole, mine: Iterable[Record]) -> dict[str, bytes | None]:
        """Notes of when the log was first seen to tell of the end of consents, of those under which rows were sent."""
        now = int(self._clock())
        names = {held.ENDED + r.consent.digest.hex(): r for r in mine if r.revoked and self._contributed(r.consent)}
        hashes = {h: name for name, r in names.items() if not self._vault.state(name) for h in held.ended(r, now)}
        found = scan.batched(whole.leaves, "revocations", hashes)
        return {hashes[h]: now.to_bytes(8, "big") for h in found}

    def _not_rolled_back(self, whole: Whole, mine: Iterable[Record], accept: bool) -> None:
        newest = receipts.newest(whole, ((r, self._contributed(r.consent)) for r in mine))
        if newest and not accept:
            raise StoreError(
                "the log holds a contribution that this vault does not know of: another device of yours sent it, or an"
                " older copy of the vault was put in its place. Merge the other device's vault, or restore the newest"
                " copy; or pass accept_rollback=True, and lose what came after"
            )
        for record in mine:
            if record.consent.digest in newest:
                self._vault.set_state(numbered(record.consent, newest[record.consent.digest]))
