"""A vendor leaves: residents export, the charter appoints another operator, the log goes on, nothing new opens.

Simulated. docs/plans/vendor_leaves.md says what is shown, and what a contract has to say besides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from plan import Outcome, Refused, Teller, admit, ask, main, numbers, refuse

import datasov as ds
from datasov.authority import approval
from datasov.crypto.kdf import random
from datasov.crypto.sign import SigningKey
from datasov.model.charter import CHARTER, DAY, Group, Member
from datasov.sim import MARK, RESIDENT, Enrolled, Grant, Simulation, on_demand
from datasov.sim.rides import MOST_RIDES
from datasov.store import place

PURPOSE, LOSS, GRANTED = "ride-planning", ds.zcdp(rho="0.1"), ds.zcdp(rho="0.4")
LATER = 10
"""One more resident comes under the second operator for so many under the first."""


@dataclass(slots=True)
class People:
    """A council and an assembly with a key each, and what they sign; the vendors' keys, which they never see."""

    council: list[SigningKey] = field(default_factory=lambda: [SigningKey(random(32)) for _ in range(3)])
    assembly: list[SigningKey] = field(default_factory=lambda: [SigningKey(random(32)) for _ in range(3)])

    def group(self, keys: list[SigningKey], name: str) -> Group:
        return Group(tuple(Member(f"{name} {i + 1}", k.public) for i, k in enumerate(keys)), 2)

    def charter(self, city: str, version: int, operators: dict[str, bytes]) -> ds.Charter:
        """Two of three members of each group sign; rides may be asked about; these operators run the city."""
        now = int(time.time())
        named = tuple(Member(name, place.keys(key)[0].public) for name, key in operators.items())
        return ds.Charter(
            city, version, now - 1, now + 365 * DAY, self.group(self.council, "council"),
            self.group(self.assembly, "assembly"), 0, 0, ((PURPOSE, LOSS),), named,
        )  # fmt: skip

    def signed(self, charter: ds.Charter) -> approval.Signed:
        text = charter.document()
        keys = [*self.council[:2], *self.assembly[1:]]
        return approval.signed(CHARTER, text, [approval.sign(CHARTER, text, k) for k in keys])


def question(people: Simulation, rows: int) -> ds.Query:
    return ds.query(people.schema("rides")).keys("service").bound(rows=rows, keys=4).count().distinct()


def run(residents: int, seed: int, tell: Teller) -> Outcome:
    first, later = on_demand(residents, seed), on_demand(max(residents // LATER, 2), seed + 1)
    both = pl.concat([first.rows("rides"), later.rows("rides").with_columns(pl.col(RESIDENT) + residents)])
    grant = [Grant(first.schema("rides"), PURPOSE, GRANTED)]
    vendor, second, stranger = random(32), random(32), random(32)
    people, facts = People(), dict[str, Any]()
    with _folder() as folder:
        path, log = folder / "plan.city", list[tuple[str, int]]()

        def note(what: str, city: ds.City) -> None:
            log.append((what, city.log.checkpoint().size))
            tell.say(f"-- {what}: the log has {log[-1][1]} leaves, {city.remaining} is left\n")

        with ds.City.open(
            path, name=f"{MARK} vendor", budget=ds.zcdp(rho=1), purposes=[PURPOSE], operator_key=vendor
        ) as city:
            founded = city.id
            city.adopt(people.signed(people.charter(str(founded), 1, {"vendor": vendor})))
            enrolled = admit(first, city, grant, folder, tell)
            before = ask(
                city, "before", "Under the vendor: rides by service", question(first, MOST_RIDES), LOSS, PURPOSE,
                first.rows("rides"), tell,
            )  # fmt: skip
            note("asked under the vendor", city)
            seen = _receipts(enrolled, city)
            facts["exported"] = _exports(enrolled, folder, first, tell)
            city.backup(folder / "taken-along.backup")
            budget = city.remaining
            other = people.signed(people.charter(str(founded), 2, {"vendor": vendor, "cooperative": second}))
            refused = [_not_named(people, city, vendor, stranger, tell)]
            city.adopt(other)
            note("charter 2 names another operator", city)
            city.rotate(second)
        with ds.City.open(path, operator_key=second) as city:
            city.adopt(people.signed(people.charter(str(founded), 3, {"cooperative": second})))
            note("another key, charter 3 without the vendor", city)
            again = city.release(question(first, MOST_RIDES), loss=LOSS, purpose=PURPOSE, as_of=before.release.epoch)
            facts["answered_before_is_the_same"] = again.digest == before.release.digest
            facts["budget_is_the_same"] = city.remaining == budget
            came = admit(later, city, grant, folder / "later", tell)
            after = ask(
                city, "after", "Under the cooperative: rides by service, those who came later included",
                question(first, MOST_RIDES + 1), LOSS, PURPOSE, both, tell,
            )  # fmt: skip
            note("asked under the cooperative", city)
            facts["receipts"] = [seen, _receipts(enrolled, city)]
            facts["log"] = log
            for what in ("answered_before_is_the_same", "budget_is_the_same", "receipts"):
                tell.say(f"{what.replace('_', ' ')}: {facts[what]}")
            tell.say()
            refused += _refusals(folder, city, enrolled, came, vendor, tell)
            return Outcome(
                "vendor_leaves", (first, later), (before, after), tuple(refused), city.budget, city.remaining, facts
            )


@contextmanager
def _folder() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="datasov-plan-") as name:
        yield Path(name)


def _receipts(enrolled: Enrolled, city: ds.City) -> int:
    """How many receipts a resident has, each verified against the log as it is now."""
    with enrolled.open(0) as resident:
        receipts = resident.receipts(city.log)
    checkpoint = city.log.checkpoint()
    for receipt in receipts:
        receipt.verify(checkpoint)
    return len(receipts)


def _exports(enrolled: Enrolled, folder: Path, people: Simulation, tell: Teller) -> dict[str, Any]:
    """One resident takes everything along in open files, and has it again in a vault elsewhere."""
    rides = people.schema("rides")
    with enrolled.open(0) as resident:
        resident.export(folder / "export", form="parquet")
        held = resident.scan(rides)
    files = sorted(str(p.relative_to(folder / "export")) for p in (folder / "export").rglob("*") if p.is_file())
    with ds.Resident.create(folder / "elsewhere.vault", device_key=random(32)) as elsewhere:
        elsewhere.import_(folder / "export")
        same = elsewhere.scan(rides).equals(held)
    tell.say(f"a resident's export: {', '.join(files)}; imported elsewhere, the same rows: {same}\n")
    return {"files": files, "rows": held.height, "the_same_elsewhere": same}


def _not_named(people: People, city: ds.City, vendor: bytes, stranger: bytes, tell: Teller) -> Refused:
    """A charter that suits the vendor, which one group alone signed."""
    own = people.charter(str(city.id), 2, {"vendor": vendor, "vendor's daughter": stranger})
    text = own.document()
    short = approval.signed(CHARTER, text, [approval.sign(CHARTER, text, k) for k in people.council])
    return refuse(
        "a charter that names another operator, signed by the council alone", lambda: city.adopt(short),
        ds.ProgrammeError, tell,
    )  # fmt: skip


def _refusals(
    folder: Path, city: ds.City, enrolled: Enrolled, came: Enrolled, vendor: bytes, tell: Teller
) -> list[Refused]:
    """What the vendor tries afterwards with the key and the copy that were taken along."""
    city.backup(folder / "new.backup")
    with came.open(0) as resident:
        consent = came.consents[0][0]
        sealed = resident.contribute(consent)

    def fork() -> object:
        with enrolled.open(1) as resident:
            resident.receipts(city.log)
            for rows in range(1, 6):
                query = ds.query(resident.tables()["rides"]).keys("service").bound(rows=rows, keys=1).count()
                old.release(query, loss=LOSS, purpose=PURPOSE)
            return resident.receipts(old.log)

    tried: list[tuple[str, Callable[[], object], type[ds.DatasovError]]] = [
        (
            "the vendor opens the city as it is now",
            lambda: ds.City.open(folder / "plan.city", operator_key=vendor), ds.StoreError,
        ),
        (
            "the vendor opens a backup made since",
            lambda: ds.City.restore(folder / "new.backup", folder / "theirs", operator_key=vendor, reanchor=True),
            ds.DatasovError,
        ),
    ]  # fmt: skip
    refused = [refuse(what, attempt, error, tell) for what, attempt, error in tried]
    with ds.City.restore(folder / "taken-along.backup", folder / "old.city", operator_key=vendor, reanchor=True) as old:
        refused.append(refuse(
            "the vendor's old copy takes in what a resident sealed to the new id", lambda: old.admit(consent, sealed),
            ds.DatasovError, tell,
        ))  # fmt: skip
        refused.append(refuse(
            "the vendor goes on with the old copy, and shows its log to a resident", fork, ds.ProofError, tell
        ))  # fmt: skip
    return refused


def picture(outcome: Outcome) -> str:
    from datasov.sim import picture as draw

    before, after = outcome.of("before"), outcome.of("after")
    services = ["volunteer", "on-demand-bus", "shared-taxi", "taxi"]
    told = pl.concat([
        numbers(asked, "residents").filter(service=s).drop("service") for s in services for asked in (before, after)
    ])  # fmt: skip
    labels = [f"{s.replace('-', ' ')}, {when}" for s in services for when in ("before", "after")]
    steps = outcome.facts["log"]
    with draw.sheet("A vendor leaves: the city's answers and its log go on", outcome.simulations[:1], [1.2, 1]) as (
        figure,
        axes,
    ):
        more = outcome.simulations[1].residents
        draw.heading(axes[0], "Residents who took a ride", f"before, after ({more} residents more); loss {LOSS} each")
        draw.dots(axes[0], labels, told, "residents")
        draw.heading(axes[1], "One log under two operators", "each receipt of before holds in the tree of after")
        draw.steps(axes[1], [w for w, _ in steps], [n for _, n in steps], "leaves in the log")
        draw.key(figure)
        return draw.render(
            figure, "Rides by service under the first operator and under the second; the log only grows."
        )


if __name__ == "__main__":
    sys.exit(main(__doc__, run, picture))
