"""Losses and trust models.

The unit of privacy is one resident with everything they have; neighbours differ by adding or removing one resident.
"""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from datasov.errors import InvalidQueryError
from datasov.model.columns import exact
from datasov.model.document import digest
from datasov.model.parties import AggregatorId, check_issuer

NANO, ATTO = 10**9, 10**18
MAX_NANO, MAX_DELTA = 10**15, 10**16

Measure: TypeAlias = Literal["zcdp", "pure"]
Number: TypeAlias = float | int | str | Fraction
TrustName: TypeAlias = Literal["central", "two_server", "local", "mixed"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A privacy loss in whole units, so that a ledger of them is exact.

    Attributes:
        nano: of the measure "zcdp", rho in 1e-9 (zero-concentrated differential privacy; Bun and Steinke 2016); of
            "pure", epsilon in 1e-9.
        delta: the failure probability in 1e-18; only zCDP has one (delta-approximate zCDP, definition 8.1 there).
    """

    nano: int
    measure: Measure = "zcdp"
    delta: int = 0

    @property
    def rho(self) -> float:
        """rho under zCDP: epsilon^2 / 2 for a pure loss (Bun and Steinke 2016, proposition 1.4)."""
        return self.concentrated.nano / NANO

    @property
    def concentrated(self) -> Loss:
        """The zCDP loss that this one implies, rounded up."""
        return self if self.measure == "zcdp" else Loss(-(-self.nano * self.nano // (2 * NANO)))

    def epsilon(self, delta: float = 0.0) -> float:
        """An epsilon for which the loss implies (epsilon, delta)-DP; a pure loss takes any delta, also zero.

        For zCDP the least found of rho + 2 sqrt(rho ln(1/d)) (Bun and Steinke 2016, proposition 1.3) and, over orders
        a > 1, a rho + ln(1/(a d)) / (a - 1) + ln(1 - 1/a) (Canonne, Kamath and Steinke 2020, proposition 12), where d
        is what the loss's own delta leaves. Each is valid; the search only tightens.
        """
        if self.measure == "pure":
            return self.nano / NANO
        rest = delta - self.delta / ATTO
        if not 0 < delta < 1 or rest <= 0:
            raise InvalidQueryError("delta lies between the loss's own and 1: a usual choice is 1e-6")
        best = self.rho + 2 * math.sqrt(self.rho * math.log(1 / rest))
        for step in range(1, 2000):
            order = 1 + 1.01**step * 1e-3
            bound = order * self.rho + math.log(1 / (order * rest)) / (order - 1) + math.log1p(-1 / order)
            best = min(best, max(bound, 0.0))
        return best

    def __add__(self, other: Loss) -> Loss:
        self._same(other)
        return Loss(self.nano + other.nano, self.measure, self.delta + other.delta)

    def __sub__(self, other: Loss) -> Loss:
        self._same(other)
        return Loss(self.nano - other.nano, self.measure, self.delta - other.delta)

    def __le__(self, other: Loss) -> bool:
        """Whether it fits within the other: in its rho or epsilon, and in its delta."""
        self._same(other)
        return self.nano <= other.nano and self.delta <= other.delta

    def meet(self, other: Loss) -> Loss:
        """The largest loss that fits within both."""
        self._same(other)
        return Loss(min(self.nano, other.nano), self.measure, min(self.delta, other.delta))

    def _same(self, other: Loss) -> None:
        if self.measure != other.measure:
            raise InvalidQueryError("a loss in pure epsilon and one in zCDP have no order and no sum: see concentrated")

    def __str__(self) -> str:
        whole, part = divmod(self.nano, NANO)
        name = "rho" if self.measure == "zcdp" else "epsilon"
        shown = f"{name} = {whole}" + (f".{part:09d}".rstrip("0") if part else "")
        return shown + (f", delta = {self.delta / ATTO:g}" if self.delta else "")

    def document(self) -> dict[str, Any]:
        return {
            "measure": self.measure, "nano": self.nano, "delta": self.delta,
            "adjacency": "add-remove", "unit": "resident",
        }  # fmt: skip

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Loss:
        return Loss(doc["nano"], doc["measure"], doc["delta"])


Purses: TypeAlias = Sequence[tuple[str, Loss]]
"""Accounts beside the budget that a question is charged to as well: the name and the cap of each."""


def zcdp(*, rho: Number, delta: Number = 0) -> Loss:
    """A loss of rho under zero-concentrated differential privacy, rounded down to whole nano-rho.

    Args:
        delta: a failure probability, at most 0.01: questions for unknown keys alone need one.

    Raises:
        InvalidQueryError: rho is not a finite number above zero (at least 1e-9, at most 1e6), or delta none.
    """
    loss = Loss(_units(rho, NANO), delta=_units(delta, ATTO))
    check_loss(loss)
    return loss


def pure(*, epsilon: Number) -> Loss:
    """A loss of epsilon under pure differential privacy, rounded down to whole nano-epsilon: Laplace noise alone.

    Raises:
        InvalidQueryError: epsilon is not a finite number above zero (at least 1e-9, at most 1e6).
    """
    loss = Loss(_units(epsilon, NANO), "pure")
    check_loss(loss)
    return loss


def _units(value: Number, unit: int) -> int:
    return math.floor(value * unit if isinstance(value, Fraction) else exact(value) * unit)


def check_loss(loss: object) -> None:
    """Raise InvalidQueryError unless it is a Loss above zero, at most rho or epsilon = 1e6, with a delta up to 0.01."""
    if not isinstance(loss, Loss) or type(loss.nano) is not int or not 0 < loss.nano <= MAX_NANO:
        raise InvalidQueryError(
            "a loss lies from 1e-9 to 1e6: make it with ds.zcdp(rho=...) or ds.pure(epsilon=...), for instance rho=0.02"
        )
    if type(loss.delta) is not int or not 0 <= loss.delta <= (MAX_DELTA if loss.measure == "zcdp" else 0):
        raise InvalidQueryError("delta is a failure probability from 0 to 0.01: a usual choice is 1e-9")


@dataclass(frozen=True, slots=True)
class Trust:
    """Who adds and who noises, and so who must be trusted for what.

    Attributes:
        commitment: SHA-256 of the aggregators' documents, of the city's issuer key, or of the parts', 32 bytes: what a
            token or a leaf commits to beside the model's name. Empty where there is none of them.
        aggregators: the leader and the helper; empty also where a token told the commitment alone.
        parts: of "mixed" the trust models under which residents answer together; else empty.
        issuer_key: under local trust, the city's issuer of enrolment tokens; empty like the aggregators.
    """

    name: TrustName
    commitment: bytes = b""
    aggregators: tuple[AggregatorId, ...] = field(default=(), compare=False)
    parts: tuple[Trust, ...] = field(default=(), compare=False)
    issuer_key: bytes = field(default=b"", compare=False)

    @property
    def each(self) -> tuple[Trust, ...]:
        """The models under one of which each resident answers: the parts of "mixed", else this one alone."""
        return self.parts or (self,)

    def part(self, name: TrustName) -> Trust | None:
        """The model of this name among :attr:`each`."""
        return next((t for t in self.each if t.name == name), None)

    @property
    def trusted(self) -> dict[str, str]:
        """Under each model of :attr:`each`, by its text: who must be trusted for what."""
        return {t.text: _TRUSTED[t.name] if t.name != "local" or t.commitment else _UNENROLLED for t in self.each}

    @property
    def text(self) -> str:
        """How tokens, registries and the log write it: the model's name, and what it commits to, where it does."""
        if not self.commitment:
            return self.name
        return f"{self.name}+{base64.urlsafe_b64encode(self.commitment).rstrip(b'=').decode()}"

    @property
    def draws(self) -> int:
        """How many independent draws of noise are in an answer beside the devices' own: one of each who adds."""
        return sum({"two_server": 2, "central": 1}.get(t.name, 0) for t in self.each)

    def document(self) -> dict[str, Any]:
        """The model, and the parties or the parts where there are any."""
        if self.parts:
            return {"model": self.name, "parts": [t.document() for t in self.parts]}
        parties = {"aggregators": [a.document() for a in self.aggregators]} if self.aggregators else {}
        issues = {"issuer_key": self.issuer_key.hex()} if self.issuer_key else {}
        return {"model": self.name, **parties, **issues}

    def __str__(self) -> str:
        return self.text

    @staticmethod
    def parse(text: str) -> Trust:
        """The trust of :attr:`text`, without its parties; InvalidQueryError where it is none."""
        name, _, digest_ = text.partition("+")
        with contextlib.suppress(ValueError):
            found = base64.urlsafe_b64decode(digest_ + "=" * (-len(digest_) % 4))
            for known, length in (("central", 0), ("local", 0), ("local", 32), ("two_server", 32)):
                if name == known and len(found) == length:
                    trust = Trust(known, found)  # type: ignore[arg-type]
                    if trust.text == text:
                        return trust
        raise InvalidQueryError("a trust model that this version does not know: grant the consent under another")

    @staticmethod
    def from_document(doc: Mapping[str, Any]) -> Trust:
        """The trust of :meth:`document`; InvalidQueryError where it is none."""
        if doc["model"] == "mixed":
            return mixed([Trust.from_document(d) for d in doc["parts"] if d["model"] != "mixed"])
        parties = [AggregatorId.from_document(d) for d in doc.get("aggregators", [])]
        if doc["model"] == "local" and not parties:
            return local(issuer_key=bytes.fromhex(doc.get("issuer_key", "")))
        if doc["model"] == "central" and not parties:
            return central()
        if doc["model"] != "two_server" or len(parties) != 2:
            raise InvalidQueryError("a trust model that this version does not know: update datasov")
        return two_server(city=parties[0], council=parties[1])


_TRUSTED = {
    "central": "the city's operator, who can see the rows, keeps them to itself, and adds and noises as it says",
    "two_server": "one of the two aggregators at least shows its shares to nobody, and noises; both, that they add",
    "local": "nobody for privacy: the device noises its own answer; for the numbers, the city, and whom it enrols",
}
_UNENROLLED = "nobody for privacy: the device noises its own answer; for the numbers, that each person answers once"
_ORDER = {"central": 0, "two_server": 1, "local": 2}


def mixed(parts: Sequence[Trust]) -> Trust:
    """Residents under different models answer one question together, each under the one that their consent names.

    Args:
        parts: two or three of :func:`central`, :func:`two_server` and :func:`local`, in any order.

    Raises:
        InvalidQueryError: fewer, or one of them twice.
    """
    found = tuple(sorted(parts, key=lambda t: _ORDER.get(t.name, -1)))
    names = [t.name for t in found]
    if len(found) < 2 or len(set(names)) < len(names) or "mixed" in names:
        raise InvalidQueryError("several trust models are two or three different ones: central, two servers, local")
    aggregators = next((t.aggregators for t in found if t.aggregators), ())
    if any(t.name == "local" and t.issuer_key in {a.issuer_key for a in aggregators} - {b""} for t in found):
        raise InvalidQueryError("the city and an aggregator have one issuer key: a token of one would be the other's")
    return Trust("mixed", digest([t.document() for t in found]), aggregators, found)


def single(trust: Trust | None) -> Trust:
    """The one model that a consent names, central where None; InvalidQueryError where there are several."""
    if trust is not None and trust.parts:
        raise InvalidQueryError("a consent names one trust model: choose the weakest that you accept of trust.each")
    return trust or central()


def central() -> Trust:
    """One operator's process holds the pool's key, adds exactly and noises once.

    Analysts and services see only releases. The operator, whoever holds the process or its key, can see the pooled
    rows: this is trust in that operator, not in hardware.
    """
    return Trust("central")


def local(*, issuer_key: bytes = b"") -> Trust:
    """Each device noises its own answer before it leaves: nobody else has to be trusted with it.

    The loss holds between any two answers, none included, of one report, whoever sees it. It errs by the root of the
    number of residents, where the other models' error does not grow with it: docs/proofs/local.md.

    Args:
        issuer_key: under which the city issues each person on its roll a token for a report, and counts no report
            without one. A city makes its own where it is founded with `enrol=True`.

    Raises:
        InvalidQueryError: not a compressed point of 33 bytes.
    """
    if not issuer_key:
        return Trust("local")
    check_issuer(issuer_key)
    return Trust("local", digest({"issuer_key": issuer_key.hex()}), issuer_key=issuer_key)


def enrolled(trust: Trust, issuer_key: bytes) -> Trust:
    """The same trust, whose local part asks for the tokens of this issuer.

    Raises:
        InvalidQueryError: it has no local part, or one that names a key: a city makes its own.
    """
    if trust.part("local") != Trust("local"):
        raise InvalidQueryError("a city that enrols people answers under local trust: found it with ds.local()")
    found = local(issuer_key=issuer_key)
    return mixed([found if t.name == "local" else t for t in trust.parts]) if trust.parts else found


def two_server(*, city: AggregatorId, council: AggregatorId) -> Trust:
    """Two aggregators hold a share each of every answer, and each adds its own full noise: docs/spec/two-server.md.

    Neither alone learns anything of a resident beyond the loss, whatever it does; both together see all. So the two
    must be run by parties that do not answer to each other: two servers under one owner are one.

    Args:
        city: the leader, to which devices send. council: the helper.

    Raises:
        InvalidQueryError: both have one key, one address or one name, or one alone issues enrolment tokens.
    """
    if bool(city.issuer_key) != bool(council.issuer_key):
        raise InvalidQueryError("one aggregator asks for enrolment tokens and the other does not: make both alike")
    for name in ("name", "url", "verify_key", "seal_key", "issuer_key"):
        if getattr(city, name) == getattr(council, name) != b"":
            raise InvalidQueryError(f"both aggregators have one {name}: two servers that are one protect nobody")
    pair = (city, council)
    return Trust("two_server", digest([a.document() for a in pair]), pair)
