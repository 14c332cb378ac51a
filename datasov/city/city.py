"""What a city does: it admits consents, answers bounded questions with noise, and keeps the public log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from datasov.aggregator.client import over_http
from datasov.aggregator.messages import Post
from datasov.authority.approval import Signed
from datasov.city.collecting import Collecting
from datasov.city.governed import Governed
from datasov.city.public import Public
from datasov.engine.local import threads
from datasov.errors import StoreError
from datasov.founding import DEFAULT_PLACE, found
from datasov.governing import check_founding
from datasov.kernel import monitor
from datasov.model.consent import CityId
from datasov.model.privacy import Loss, Trust, central, enrolled, mixed
from datasov.model.purposes import Purpose, named
from datasov.model.schema import Schema
from datasov.store import place
from datasov.upkeep import exchange
from datasov.upkeep.backup import backup, note_restoration, restore
from datasov.upkeep.migrate import migrate
from datasov.upkeep.rotate import GRACE, rotate

DAY, HOUR = 86_400, 3_600


class City(Public, Collecting, Governed):
    """A city's side. Open it with :meth:`open`; it is a context manager, and any number of threads may use it."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        budget: Loss | None = None,
        purposes: Sequence[str | Purpose] | None = None,
        trust: Trust | Sequence[Trust] | None = None,
        enrol: bool = False,
        processing: str | None = None,
        name: str | None = None,
        epoch: int = DAY,
        tick: int = HOUR,
        allowance: Loss | None = None,
        period: int = 365 * DAY,
        erase_within: int = 30 * DAY,
        charter: Signed | bytes | None = None,
        operator_key: bytes | None = None,
        authorities: Sequence[bytes] = (),
        reanchor: bool = False,
        store: str | None = None,
        clock: Callable[[], float] = time.time,
        engine: monitor.Engine | None = None,
        post: Post | None = None,
    ) -> City:
        """Open the city at a path, or found it where there is nothing.

        Args:
            path: the city's folder. Its key and its anchor lie beside it, as `PATH.key` and `PATH.anchor`.
            budget: the loss that all answers may ever cost together; fixed when the city is founded.
            purposes: what may be asked for; fixed then too. A name of your own, a term of the Data Privacy Vocabulary
                like "dpv:ImproveTransportMobility", or a :class:`datasov.Purpose`.
            trust: who adds: :func:`datasov.central`, :func:`datasov.two_server` or :func:`datasov.local`, or several of
                them, of which each resident accepts one and all answer together; fixed then too. None: central.
            enrol: whether, under local trust, only people on the city's roll answer, once each (:meth:`enrol`): the
                trust then names the key of the tokens that they get; fixed then too.
            processing: where the city processes, an ISO 3166 code like "JP-10"; fixed then too. None: "JP".
            epoch, tick: seconds of a data epoch and of a tick of the log; a new city's, fixed then.
            allowance: of the budget, the most that may be spent in any one period of `period` seconds (counted from
                1970); fixed then too. None: all of it. What one period leaves does not add to the next, and the budget
                stays the most that all periods may ever cost together.
            erase_within: seconds within which the rows of a consent that was revoked, expired or renewed are gone from
                the pool, as long as somebody asks or calls :meth:`tick` in each half of them; fixed then too.
            charter: the first one, signed, as :meth:`adopt` takes it. A new city is founded under it or not at all, for
                which its key must be there before; an existing one must have been.
            operator_key: 32 bytes, for instance from a key manager, instead of the key file.
            authorities: certificates (X.509, DER) of those who accredit signers: :meth:`enrol_certificate`.
            reanchor: accept this copy as the newest, where the anchor was lost for good.
            store: for a new city, where its database is: `postgresql://USER@HOST/DATABASE?schema=NAME` (extra
                `postgres`), or a file in the folder where None. The folder remembers it, but for a password, which is
                better in PGPASSWORD or ~/.pgpass. For a city that is there: only for a password, or where the server
                has another address.
            clock: Unix seconds. engine: how shards are mapped (threads of this process where None).
            post: how the aggregators of a two-server city are reached (over HTTP where None; extra `two-server`).

        Raises:
            StoreError: no city, another budget or other purposes than it was founded with, the wrong key, or a copy
                that lies behind its anchor.
            InvalidQueryError: a new city without purposes.
        """
        path = Path(path)
        trust = mixed(trust) if trust is not None and not isinstance(trust, Trust) else trust
        new = not path.exists()
        if new and place.anchor_path(path).exists():
            raise StoreError(
                f"{path.name} is missing, and its anchor is here: bring the folder back from a backup, "
                "or move the key and the anchor away to found another city"
            )
        if new and charter is not None:
            signing, opening = place.keys(place.operator_key(path, operator_key, create=False))
            known = CityId(path.stem if name is None else name, signing.public, opening.public)
            check_founding(charter, known, int(clock()))
        if new:
            found(
                path, operator_key, budget, allowance, period, purposes, trust or central(),
                path.stem if name is None else name, epoch, tick, erase_within, int(clock()),
                DEFAULT_PLACE if processing is None else processing, store, enrol,
            )  # fmt: skip
        exchange.settle(path, operator_key, store)
        held, key = place.open_store(path, operator_key, store)
        try:
            city = cls(path, held, key, clock, engine or threads())
            city._given, city._at, city._authorities = operator_key, store, tuple(authorities)
            city._post = over_http if post is None else post
            if not new:
                city._check_same(budget, purposes, trust, allowance, processing, enrol)
            city._check_anchor(new, reanchor)
            if new and charter is not None:
                city.adopt(charter)
            elif charter is not None:
                city._governing.check_same(charter)
            place.remember(path, held)
        except BaseException:
            held.close()
            raise
        return city

    def _check_same(
        self, budget: Loss | None, purposes: Sequence[str | Purpose] | None, trust: Trust | None,
        allowance: Loss | None, processing: str | None, enrol: bool = False,
    ) -> None:  # fmt: skip
        if budget is not None and budget != self.budget:
            raise StoreError("the city keeps the budget that it was founded with: open it without naming one")
        if allowance is not None and allowance != self._ledger.allowance:
            raise StoreError("the city keeps the allowance that it was founded with: open it without naming one")
        if purposes is not None and not named(purposes, self._described):
            raise StoreError("the city keeps the purposes that it was founded with: open it without naming any")
        asked = self.trust.part("local")
        issuer = b"" if asked is None else asked.issuer_key
        if enrol and not issuer:
            raise StoreError("the city was founded without a roll: open it without enrol=True")
        if trust not in (None, self.trust) and not (trust and enrol and enrolled(trust, issuer) == self.trust):
            raise StoreError("the city keeps the trust model that it was founded with: open it without naming one")
        if processing is not None and processing != self.processing:
            raise StoreError("the city keeps the place that it was founded with: open it without naming one")

    def _check_anchor(self, new: bool, reanchor: bool) -> None:
        try:
            if not new:
                exchange.check_anchor(self._store, self._path, self._key.public)
        except StoreError:
            if not reanchor:
                raise
            note_restoration(self._store, self._who, int(self._clock()))
        self._anchor()

    def compact(self, schema: Schema, purpose: str) -> None:
        """Fold pending contributions into the pool's shards and erase the rows of revoked consents from them."""
        self._pool.fold(schema, purpose, compact=True)
        self._anchor()

    def backup(self, path: str | Path) -> None:
        """Write a backup of the city to a new file, sealed under the operator's key, while others go on writing.

        Raises:
            StoreError: the path exists, the city is damaged, or the disk refuses. No half backup is left.
        """
        backup(self._store, self._path / "pool", self._operator, Path(path), int(self._clock()))

    @classmethod
    def restore(
        cls,
        backup: str | Path,
        path: str | Path,
        *,
        operator_key: bytes | None = None,
        log_head: bytes | None = None,
        reanchor: bool = False,
        store: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> City:
        """Put a city back from a backup, and open it. It must be the newest: see :func:`datasov.upkeep.backup.restore`.

        With `store` its database goes to a PostgreSQL server, as :meth:`open` takes it, and without into the folder.

        Raises:
            StoreError: as there: no budget is refilled by going back behind the anchor or a checkpoint.
        """
        restore(
            Path(backup), Path(path), operator_key=operator_key, log_head=log_head, reanchor=reanchor,
            now=int(clock()), at=store,
        )  # fmt: skip
        return cls.open(path, operator_key=operator_key, store=store, clock=clock)

    def rotate(self, new_key: bytes | None = None, *, grace: int = GRACE) -> CityId:
        """Close the city, which nobody else may have open, and give it another operator's key; its new id.

        A new key file takes the place of the old one, where the key lies in a file. Where it was handed in, hand in the
        new one too, and keep both until this returns. Contributions that are sealed to the old id are taken for `grace`
        seconds more (0 after a theft), its revocations for good.

        Raises:
            StoreError: the city is open elsewhere, its charter does not name the new key among its operators, or the
                disk refuses: the city is then as it was.
        """
        operators = None if self.charter is None else {member.key for member in self.charter.operators}
        self.close()
        return rotate(
            self._path, operator_key=self._given, new_key=new_key, grace=grace, now=int(self._clock()),
            operators=operators, at=self._at,
        )  # fmt: skip

    @classmethod
    def migrate(
        cls, path: str | Path, *, operator_key: bytes | None = None, store: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Path | None:  # fmt: skip
        """Bring a city of an older version to this one, after a backup, whose path is returned; None where it is new.

        Raises:
            StoreError: it is newer than this version, open elsewhere or damaged, or the disk refuses.
        """
        return migrate(Path(path), operator_key=operator_key, now=int(clock()), at=store)

    def close(self) -> None:
        """Close the city's files."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<City {self.id.name}, {self.remaining} of {self.budget} left>"
