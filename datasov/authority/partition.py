"""The residents of one (schema, purpose), as columns: a fold over the events of its stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasov.authority import events
from datasov.authority.columns import Array, Columns, Index, Integers, Places, heads
from datasov.authority.events import ADMIT, HEAD, Terms
from datasov.authority.status import list_of
from datasov.errors import StoreError
from datasov.model.consent import Claims
from datasov.wire import cbor

Mask = npt.NDArray[np.bool_]
_BLOCK = 1 << 16
_COPIED = ("terms", "status", "issued", "begins", "ends", "nano", "delta", "sequence", "admitted", "account", "digest")
_KINDS: Mapping[str, str | tuple[str, int]] = {
    "live": "?", "pending": "?", "marked": "?", "event": "u4", "held": "u4", "terms": "u4", "status": "u4",
    "issued": "i8", "begins": "i8", "ends": "i8", "nano": "i8", "delta": "i8", "sequence": "i8", "admitted": "i8",
    "account": ("u1", 32), "digest": ("u1", 32),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """What a partition holds of the resident at one place: their newest consent, and their newest contribution.

    `blob` names a sealed contribution that is not yet in a shard; `folded` says that rows of theirs lie in one. `event`
    is the place of the newest admission in the partition's stream.
    """

    digest: bytes
    issued: int
    expires: int
    sequence: int
    live: bool
    blob: str | None
    folded: bool
    event: int


class Partition:
    """The residents of one (schema, purpose), by their places 0, 1, 2 ... in order of first admission.

    `columns` has one entry a resident: `live` (not revoked), `pending` (a contribution waits as a blob), `marked` (a
    status list says that the consent is over), `event` and `held` (1 + the place in the stream of the newest admission,
    and of the one whose rows lie in a shard; 0: none), and of the newest consent its terms, status index, times, loss,
    sequence, time of admission, account key and digest.
    """

    def __init__(self, name: str) -> None:
        self.name, self.version = name, 0
        self.columns = Columns(_KINDS)
        self.places = Places(self.columns)
        self.shards: dict[int, tuple[int, bytes]] = {}
        self.statuses = Index()
        self.revoked: list[tuple[int, int]] = []
        """Time of revocation and status index of each consent that was revoked, in order."""
        self._superseded = Index()
        self._terms: dict[bytes, int] = {}
        self._names: list[frozenset[str]] = []
        self._fresh: list[Array] = []

    @property
    def stream(self) -> str:
        return "registry/" + self.name

    def __len__(self) -> int:
        return self.columns.size

    def eligible(
        self, columns: Iterable[str], tables: Mapping[str, bytes], trust: str, measure: str, now: int,
        usable: Mask | None = None, since: int = 0,
    ) -> Mask:  # fmt: skip
        """Whose live consent covers the columns at this time, under this trust and measure; one entry a resident.

        A joined table must be the very schema that the consent names. A consent in pure epsilon admits pure mechanisms
        alone, and one in zCDP those of zCDP: each has an account of its own.

        Args:
            usable: which status lists may be used, shape (4096,); None where the city publishes none. A consent that
                was admitted before `since` takes part only where its list is among them; one that a list marked, never.
        """
        wanted = events.asked(tuple(columns), dict(tables), trust, measure)
        fits = np.fromiter((wanted <= names for names in self._names), dtype=np.bool_, count=len(self._names))
        missing = usable is not None and not usable.all()
        mask: Mask = np.zeros(len(self), dtype=np.bool_)
        live, marked, begins, ends, terms, status, admitted = (
            self.columns[n] for n in ("live", "marked", "begins", "ends", "terms", "status", "admitted")
        )
        for at in range(0, len(self), _BLOCK):  # the working set stays in cache
            here = slice(at, at + _BLOCK)
            part = fits.take(terms[here])
            part &= live[here]
            part &= begins[here] <= now
            part &= now < ends[here]
            if usable is not None:
                part &= ~marked[here]
            if usable is not None and missing:
                part &= usable.take(list_of(status[here])) | (admitted[here] >= since)
            mask[here] = part
        return mask

    def caps(self) -> Integers:
        """The most that each resident's newest consent allows in all, in nano and in delta; shape (2, residents)."""
        return np.stack([self.columns["nano"], self.columns["delta"]])

    def member(self, place: int) -> Member:
        """What is held of the resident at a place."""
        at = {n: self.columns[n][place] for n in ("digest", "issued", "ends", "sequence", "live", "held", "event")}
        sequence = int(at["sequence"])
        return Member(
            at["digest"].tobytes(), int(at["issued"]), int(at["ends"]), sequence, bool(at["live"]),
            self.blob(place) if self.columns["pending"][place] else None, bool(at["held"]), int(at["event"]) - 1,
        )  # fmt: skip

    def blob(self, place: int) -> str:
        """The name of the sealed contribution that was admitted last at a place."""
        return blob_name(self.name, place, int(self.columns["sequence"][place]))

    def pending(self) -> dict[int, str]:
        """Places and blob names of contributions that are not in a shard yet."""
        places = np.flatnonzero(self.columns["pending"])
        sequences = self.columns["sequence"][places].tolist()
        return {i: blob_name(self.name, i, s) for i, s in zip(places.tolist(), sequences, strict=True)}

    def lasting(self, now: int) -> Mask:
        """Whose consent is neither revoked nor expired."""
        lasts: Mask = self.columns["live"] & (now < self.columns["ends"])
        return lasts

    def leaving(self, now: int) -> list[int]:
        """Places of residents whose rows must leave their shard: revoked, expired or replaced."""
        gone = (self.columns["held"] > 0) & (self.columns["pending"] | ~self.lasting(now))
        places: list[int] = np.flatnonzero(gone).tolist()
        return places

    def lapsed(self, now: int) -> list[int]:
        """Places of residents whose contribution still waits though their consent has expired."""
        places: list[int] = np.flatnonzero(self.columns["pending"] & (self.columns["ends"] <= now)).tolist()
        return places

    def terms(self, claims: Claims) -> tuple[bytes, int | None]:
        """The event that tells of a consent's terms, and their number where they stand in the stream."""
        event = events.terms_of(claims).event()
        return event, self._terms.get(event)

    @property
    def numbered(self) -> int:
        """How many terms the stream tells of."""
        return len(self._names)

    def superseded(self, consent: bytes, place: int) -> bool:
        """Whether the consent with this digest was admitted at the place, and then replaced by a newer one."""
        return place in self._superseded[int.from_bytes(consent[:8], "little")]

    def fresh(self) -> Array:
        """Places at which consents were admitted since this was last asked."""
        found = np.concatenate([np.zeros(0, dtype=np.uint32), *self._fresh])
        self._fresh = []
        return found

    def apply(self, found: Sequence[bytes]) -> None:
        """Take in the next events of the stream.

        Raises:
            StoreError: an event is of no known kind.
        """
        run: list[bytes] = []
        seen: set[bytes] = set()
        for event in found:
            admits, place = event[:1] == ADMIT, event[1:5]
            if not admits or place in seen:
                self._admit(run)
                run, seen = [], set()
            if admits:
                run.append(event)
                seen.add(place)
            else:
                self._other(event)
        self._admit(run)

    def _other(self, event: bytes) -> None:
        match cbor.decode(event):
            case ["revoke", int(place), int(time)]:
                self.columns["live"][place] = self.columns["pending"][place] = False
                self.revoked.append((time, int(self.columns["status"][place])))
            case ["fold", shard, generation, fingerprint, [first, last], places]:
                self.shards[shard] = generation, fingerprint
                self._folded(first, last, places)
            case ["lapse", places]:
                self.columns["pending"][places] = False
            case ["terms", columns, tables, trust, measure]:
                terms = Terms(frozenset(columns), frozenset((t, d) for t, d in tables), trust, measure)
                self._terms[event] = len(self._names)
                self._names.append(terms.names())
            case _:
                raise StoreError("an unknown event in the registry: update datasov")
        self.version += 1

    def _admit(self, run: Sequence[bytes]) -> None:
        """Take in admissions at different places, of which those behind the last are new, in ascending order."""
        if not run:
            return
        if min(map(len, run)) <= HEAD.itemsize:
            raise _unreadable()
        heads_ = events.admissions(run)
        places, size = heads_["place"].astype(np.int64), len(self)
        old = places < size
        new = places[~old]
        if (new != np.arange(size, size + len(new))).any():
            raise _unreadable()
        replaced = places[old]
        other = (self.columns["digest"][replaced] != heads_["digest"][old]).any(axis=1)
        self._superseded.add(heads(self.columns["digest"][replaced[other]]), replaced[other])
        moved = np.ones(len(run), dtype=np.bool_)
        moved[old] = other
        self.columns.grow(size + len(new))
        for name in _COPIED:
            self.columns[name][places] = heads_[name]
        for name, value in (("live", True), ("pending", True), ("marked", False)):
            self.columns[name][places] = value
        self.columns["event"][places] = np.arange(self.version + 1, self.version + 1 + len(run))
        self.places.add(heads_["account"][~old], size)
        self.statuses.add(heads_["status"][moved], places[moved])
        self._fresh.append(places.astype(np.uint32))
        self.version += len(run)

    def _folded(self, first: int, last: int, places: Sequence[int]) -> None:
        """From now on the rows of exactly these places, among first .. last - 1, lie in their shard."""
        here = slice(first, min(last, len(self)))
        folded = np.zeros(len(self), dtype=np.bool_)
        folded[places] = True
        pending, held, event = (self.columns[n][here] for n in ("pending", "held", "event"))
        came = folded[here] & pending
        held[came] = event[came]
        held[~folded[here]] = 0
        pending[came] = False

    @property
    def bytes(self) -> int:
        """What the columns and their indexes take."""
        return self.columns.bytes + self.places.bytes + self.statuses.bytes


def _unreadable() -> StoreError:
    return StoreError("an admission in the registry that cannot be read: bring back an unchanged copy")


def blob_name(partition: str, place: int, sequence: int) -> str:
    """The name under which a contribution waits to be folded in."""
    return f"pool/{partition}/{place}/{sequence}"
