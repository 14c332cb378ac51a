"""Charters: who, together, may allow questions in a city. The root document of its governance, as a value.

The roles are those of The Update Framework (Samuel, Mathewson, Cappos and Dingledine 2010): a root that names keys and
thresholds, and is replaced only by what its own thresholds sign. Here every threshold holds in two groups at once.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasov.errors import InvalidQueryError
from datasov.model.consent import CityId, check_purpose
from datasov.model.document import Document
from datasov.model.mynumber import check_text
from datasov.model.privacy import Loss, check_loss

CHARTER = "datasov charter v1"
GROUPS = ("council", "assembly")
MAX_KEYS, MAX_LISTED, MAX_EMERGENCY_DAYS, DAY = 256, 1024, 14, 86_400
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def malformed(what: str) -> InvalidQueryError:
    """The error of a document that is not what it should be."""
    return InvalidQueryError(f"the document cannot be used: {what}")


def exactly(doc: object, names: Collection[str], what: str) -> Mapping[str, Any]:
    """The mapping, once it has these members and no others; InvalidQueryError otherwise."""
    if not isinstance(doc, Mapping) or set(doc) != set(names):
        given = set(doc) if isinstance(doc, Mapping) else set[str]()
        odd = {"lacks": set(names) - given, "has, and must not have,": given - set(names)}
        told = " and ".join(f"{words} {', '.join(sorted(map(str, found)))}" for words, found in odd.items() if found)
        raise malformed(f"{what} {told}")
    return doc


def listed(value: object, most: int, what: str) -> Sequence[Any]:
    """The list, of at most so many items; InvalidQueryError otherwise."""
    if not isinstance(value, list | tuple) or len(value) > most:
        raise malformed(f"{what} is a list of at most {most} entries")
    return value


def whole(value: object, low: int, high: int, what: str) -> int:
    """The whole number within [low, high]; InvalidQueryError otherwise."""
    if type(value) is not int or not low <= value <= high:
        raise malformed(f"{what} is a whole number from {low:,} to {high:,}")
    return value


def octets(value: object, what: str) -> bytes:
    """32 bytes of 64 lower-case hexadecimal digits; InvalidQueryError otherwise."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise malformed(f"{what} is 64 hexadecimal digits in lower case")
    return bytes.fromhex(value)


def plain(value: object, most: int, what: str) -> str:
    """A printable text of 1 to so many characters, without spaces around it; InvalidQueryError otherwise."""
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable() or value != value.strip():
        raise malformed(f"{what} is a printable text of 1 to {most} characters, without spaces around it")
    check_text(value, what)
    return value


def instant(value: object, what: str) -> int:
    """Unix seconds of a text like 2027-04-01T00:00:00Z; InvalidQueryError where it is none."""
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return int(dt.datetime.fromisoformat(value).timestamp())
    except ValueError:
        pass
    raise malformed(f"{what} is a time like 2027-04-01T00:00:00Z, in UTC")


def told(seconds: int) -> str:
    """The text of Unix seconds that :func:`instant` reads."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def loss_of(doc: object, what: str) -> Loss:
    """The loss of a document, in its one spelling and within bounds; InvalidQueryError otherwise."""
    found = exactly(doc, Loss(1).document(), what)
    loss = Loss(found["nano"], found["measure"], found["delta"])
    if loss.measure not in ("zcdp", "pure") or dict(found) != loss.document():
        raise malformed(f"{what} is no loss per resident, in zcdp or pure")
    check_loss(loss)
    return loss


@dataclass(frozen=True, slots=True)
class Member:
    """One who signs: a name for people, which proves nothing, and an Ed25519 public key of 32 bytes."""

    name: str
    key: bytes

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "key": self.key.hex()}


@dataclass(frozen=True, slots=True)
class Group:
    """Members, and how many of their keys an approval needs; `emergency`: so many in one, 0 where none is foreseen."""

    members: tuple[Member, ...]
    threshold: int
    emergency: int = 0

    @property
    def keys(self) -> frozenset[bytes]:
        return frozenset(m.key for m in self.members)

    def document(self) -> dict[str, Any]:
        return {
            "keys": [m.document() for m in self.members], "threshold": self.threshold, "emergency": self.emergency,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Charter:
    """What a city's people agreed on: who approves, with how many, and what is left open.

    Attributes:
        city: the text of the id under which the city was founded; the same in every version.
        version: 1, and one more in each successor.
        issued, expires: Unix seconds. After `expires` the charter allows nothing but its own successor.
        council, assembly: an approval needs the thresholds of both. No key stands in both.
        emergency_days: the longest that an emergency programme lasts, up to 14; 0: there are none.
        notice_days: so long after its approval an ordinary programme starts at the earliest.
        open: purposes that need no programme, each with the largest loss of one question.
        operators: the keys of the city's operator, and of any later one.
        withdrawn: identities of programmes that end with this charter, 32 bytes each.
    """

    city: str
    version: int
    issued: int
    expires: int
    council: Group
    assembly: Group
    emergency_days: int
    notice_days: int
    open: tuple[tuple[str, Loss], ...]
    operators: tuple[Member, ...]
    withdrawn: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        check_charter(self)

    @property
    def groups(self) -> tuple[tuple[str, Group], ...]:
        return ("council", self.council), ("assembly", self.assembly)

    def document(self) -> dict[str, Any]:
        """The charter as a document: what is signed is its canonical text."""
        return {
            "type": CHARTER, "city": self.city, "version": self.version, "issued": told(self.issued),
            "expires": told(self.expires), "council": self.council.document(), "assembly": self.assembly.document(),
            "emergency_days": self.emergency_days, "notice_days": self.notice_days,
            "open": [{"purpose": p, "loss": loss.document()} for p, loss in self.open],
            "operators": [m.document() for m in self.operators], "withdrawn": [w.hex() for w in self.withdrawn],
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Document) -> Charter:
        """The charter of a document; InvalidQueryError unless it is one in all its parts."""
        names = (
            "type", "city", "version", "issued", "expires", *GROUPS, "emergency_days", "notice_days", "open",
            "operators", "withdrawn",
        )  # fmt: skip
        found = exactly(doc, names, "a charter")
        if found["type"] != CHARTER:
            raise malformed(f"its type is not {CHARTER!r}")
        allowed = [exactly(o, ("purpose", "loss"), "an open purpose") for o in listed(found["open"], 256, "open")]
        return Charter(
            plain(found["city"], 256, "city"), whole(found["version"], 1, 2**31, "version"),
            instant(found["issued"], "issued"), instant(found["expires"], "expires"),
            _group(found["council"]), _group(found["assembly"]),
            whole(found["emergency_days"], 0, MAX_EMERGENCY_DAYS, "emergency_days"),
            whole(found["notice_days"], 0, 366, "notice_days"),
            tuple((o["purpose"], loss_of(o["loss"], "the loss of an open purpose")) for o in allowed),
            _members(found["operators"]),
            tuple(octets(w, "an identity") for w in listed(found["withdrawn"], MAX_LISTED, "withdrawn")),
        )  # fmt: skip


def _group(doc: object) -> Group:
    found = exactly(doc, ("keys", "threshold", "emergency"), "a group")
    numbers = (whole(found[n], 0, MAX_KEYS, n) for n in ("threshold", "emergency"))
    return Group(_members(found["keys"]), *numbers)


def _members(value: object) -> tuple[Member, ...]:
    found = [exactly(m, ("name", "key"), "a key") for m in listed(value, MAX_KEYS, "keys")]
    return tuple(Member(plain(m["name"], 128, "a name"), octets(m["key"], "a key")) for m in found)


def check_charter(charter: Charter) -> None:
    """Raise InvalidQueryError unless a charter's parts fit each other. Whether keys are points is checked elsewhere."""
    CityId.parse(charter.city)
    if not charter.issued < charter.expires:
        raise malformed("it expires before it is issued")
    for what, members in (
        *((f"the {n}", g.members) for n, g in charter.groups), ("the operators", charter.operators),
    ):  # fmt: skip
        if len({m.key for m in members}) < len(members):
            raise malformed(f"one key stands twice among {what}: each member has a key of their own")
        if len({m.name for m in members}) < len(members):
            raise malformed(f"one name stands twice among {what}: tell them apart")
    council, assembly = charter.council.keys, charter.assembly.keys
    operators = {m.key for m in charter.operators}
    if council & assembly:
        raise malformed("one key stands in the council and in the assembly: nobody approves for both")
    if operators & (council | assembly):
        raise malformed("an operator's key stands in a group: who runs the city does not approve what it runs")
    if not operators:
        raise malformed("no operator is named: give the city's own key")
    for name, group in charter.groups:
        if not 1 <= group.threshold <= len(group.members):
            raise malformed(f"the threshold of the {name} is from 1 to the number of its keys")
        if bool(charter.emergency_days) != bool(group.emergency):
            raise malformed("emergencies need days and a threshold in each group; all three are 0 where there are none")
        if group.emergency and not group.threshold < group.emergency <= len(group.members):
            raise malformed(
                f"an emergency needs more keys of the {name} than an ordinary programme, and not more than there are"
            )
    for purpose, loss in charter.open:
        check_purpose(purpose)
        check_loss(loss)
    if len({p for p, _ in charter.open}) < len(charter.open) or len(set(charter.withdrawn)) < len(charter.withdrawn):
        raise malformed("an open purpose or a withdrawn programme stands twice")
