"""A-city: who gave up their licence, volunteer rides, appointments and points: where are visits missed, do rides help?

Simulated. docs/plans/a_city.md says what is asked and why it is asked so.
"""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

import polars as pl
from plan import Asked, Outcome, Refused, Teller, admit, ask, city_of, main, part_of, refuse, shares

import datasov as ds
from datasov.sim import RESIDENT, Enrolled, Grant, Simulation, ageing
from datasov.sim.elders import MOST_VISITS

PURPOSE = ds.Purpose(
    "care-planning", within="dpv:ImproveHealthcare", ja="通院と送迎の計画", en="Planning of care and of rides"
)
GRANTED, NARROW = ds.zcdp(rho="0.4"), 10
"""What a consent allows in all; and one in so many signs for health alone."""


def grants(people: Simulation) -> tuple[list[Grant], frozenset[int]]:
    """The consents: most name every domain that the questions read, some name health alone."""
    visits, rides = people.schema("visits"), people.schema("rides")
    points, driving = people.schema("local_points"), people.schema("driving")
    register = people.schema("resident_register")
    narrow = frozenset(range(0, people.residents, NARROW))
    wide = frozenset(range(people.residents)) - narrow
    return [
        Grant(
            visits, PURPOSE.name, GRANTED, columns=("ward", "form", "kept", "rider", "by_points"),
            special=("at", "form", "kept"), join=(driving, register), reads=(rides, points), residents=wide,
        ),
        Grant(visits, PURPOSE.name, GRANTED, columns=("ward",), special=("form", "kept"), residents=narrow),
    ], wide  # fmt: skip


def questions(people: Simulation) -> list[tuple[str, str, ds.Query, ds.Loss]]:
    """Name, title, question and loss."""
    visits = people.schema("visits")
    driving, register = people.schema("driving"), people.schema("resident_register")
    old = ds.col("resident_register.age_band").is_in(["75-79", "80-84", "85+"])
    gave_up = ds.col("driving.licence") == "returned"
    booked = ds.col("kept").is_in(["kept", "missed"])
    base = ds.query(visits).join(driving).join(register).where(gave_up & old & booked)
    by_form = base.keys("form", "rider", "kept").bound(rows=MOST_VISITS, keys=12).count()
    rode = base.where((ds.col("form") == "in-person") & (ds.col("rider").is_in([True])))
    return [
        (
            "booked", "Residents over 75 who gave up their licence and had an appointment, by ward",
            base.keys("ward").bound(keys=1).distinct(), ds.zcdp(rho="0.05"),
        ),
        (
            "missed", "Those of them who missed one",
            base.where(ds.col("kept") == "missed").keys("ward").bound(keys=1).distinct(), ds.zcdp(rho="0.05"),
        ),
        (
            "rides", "Do rides help: appointments by form, with and without a volunteer ride in the 30 days before",
            by_form, ds.zcdp(rho="0.2"),
        ),
        (
            "points", "Points: appointments in person of those who rode, by whether they paid with points",
            rode.keys("by_points", "kept").bound(rows=MOST_VISITS, keys=4).count(), ds.zcdp(rho="0.05"),
        ),
    ]  # fmt: skip


SHOWN = {"kept": ["kept", "missed"]}


def run(residents: int, seed: int, tell: Teller) -> Outcome:
    people = ageing(residents, seed)
    agreed, wide = grants(people)
    rows = people.truth["visits"].filter(pl.col(RESIDENT).is_in(list(wide)))
    with city_of("A-city", [PURPOSE]) as (folder, city):
        enrolled = admit(people, city, agreed, folder, tell)
        asked = tuple(
            ask(city, name, title, query, loss, PURPOSE.name, rows, tell, SHOWN if name in ("rides", "points") else {})
            for name, title, query, loss in questions(people)
        )
        for label, row in helped(asked[2]):
            told = f"{row['value']:.0%} [{row['low']:.0%}, {row['high']:.0%}], exact {row['exact']:.0%}"
            tell.say(f"share missed, {label}: {told}")
        for row in part_of(asked[1], asked[0], "residents").iter_rows(named=True):
            told = f"{row['value']:.0%} [{row['low']:.0%}, {row['high']:.0%}], exact {row['exact']:.0%}"
            tell.say(f"share of residents who missed a visit, {row['ward']}: {told}")
        tell.say()
        refused = _refusals(people, city, enrolled, asked[0], tell)
        return Outcome("a_city", (people,), asked, refused, city.budget, city.remaining)


CASES = (("in-person", False), ("in-person", True), ("remote", False), ("remote", True))


def helped(rides: Asked) -> list[tuple[str, dict[str, Any]]]:
    """The share of appointments missed, with its interval, in person and remote, without and with a ride before."""
    found = {(r["form"], r["rider"]): r for r in shares(rides, "kept", "missed", "kept").iter_rows(named=True)}
    return [(f"{form}, {'a ride' if rode else 'no ride'} before", found[form, rode]) for form, rode in CASES]


def _refusals(people: Simulation, city: ds.City, enrolled: Enrolled, first: Asked, tell: Teller) -> tuple[Refused, ...]:
    """What a vault does not sign, and what the city does not answer."""
    visits, until = people.schema("visits"), dt.date.today() + dt.timedelta(days=300)
    given = {"purpose": PURPOSE.name, "loss": ds.zcdp(rho="0.1"), "until": until}
    query = first.release.query
    with enrolled.open(1) as resident:
        return (
            refuse(
                "a consent that covers what is of the special class without naming it",
                lambda: resident.grant(city.id, visits, columns=["ward", "kept"], **given), ds.ConsentError, tell,
            ),
            refuse(
                "a consent to what the vault derives from rides that does not name mobility",
                lambda: resident.grant(city.id, visits, columns=["rider"], special=["at"], **given), ds.ConsentError,
                tell,
            ),
            refuse(
                "the first question, for a purpose that nobody declared: insurance",
                lambda: city.release(query, loss=first.release.loss, purpose="insurance"), ds.ConsentError, tell,
            ),
            refuse(
                "one resident's appointments without a bound",
                lambda: city.release(
                    ds.query(visits).keys("ward").count(), loss=ds.zcdp(rho="0.1"), purpose=PURPOSE.name
                ),
                ds.InvalidQueryError, tell,
            ),
            refuse(
                "the first question with less noise than the budget has left",
                lambda: city.release(query, loss=ds.zcdp(rho="0.9"), purpose=PURPOSE.name),
                ds.BudgetExceededError, tell,
            ),
        )  # fmt: skip


def picture(outcome: Outcome) -> str:
    from datasov.sim import picture as draw

    missed, rides = outcome.of("missed"), outcome.of("rides")
    wards = part_of(missed, outcome.of("booked"), "residents")
    by_ride = helped(rides)
    names, told = [n for n, _ in by_ride], pl.DataFrame([row for _, row in by_ride])
    with draw.sheet("A-city: where visits are missed, and whether rides help", outcome.simulations, [1, 1]) as (
        figure,
        axes,
    ):
        both = missed.release.loss + outcome.of("booked").release.loss
        draw.heading(
            axes[0], "Over 75, no licence: missed a visit", f"by ward, from the hospital outwards; loss {both}"
        )
        draw.dots(axes[0], wards["ward"].to_list(), wards, "of residents with an appointment", percent=True)
        draw.heading(axes[1], "Share of appointments missed", f"volunteer rides before; loss {rides.release.loss}")
        draw.dots(axes[1], names, told, "of appointments kept or missed", percent=True)
        draw.key(figure)
        words = "; ".join(f"{n}: {v:.0%}" for n, v in zip(names, told["value"].to_list(), strict=True))
        return draw.render(figure, f"Missed appointments of residents over 75 in A-city. Share missed, {words}.")


if __name__ == "__main__":
    sys.exit(main(__doc__, run, picture))
