"""Maebashi: houses that may stand empty, people by hour and square, opinions by topic, an id without My Number.

Simulated. docs/plans/maebashi.md says what is asked and why it is asked so.
"""

from __future__ import annotations

import sys
from typing import Any

import polars as pl
from plan import Asked, Outcome, Refused, Teller, admit, ask, city_of, main, numbers, refuse

import datasov as ds
from datasov.model.mynumber import check_digit
from datasov.sim import Enrolled, Grant, Simulation, maebashi, topic
from datasov.sim.town import LAST, LOW, MOST_OPINIONS, MOST_TRIPS, squares

HOUSES = ds.Purpose("vacant-houses", ja="空き家の推定", en="Estimates of vacant houses")
FLOW = ds.Purpose("people-flow", within="dpv:ImproveTransportMobility", ja="人流の把握", en="Flow of people by hour")
VOICES = ds.Purpose("opinions", ja="意見の集計", en="Opinions by topic")
GRANTED = ds.zcdp(rho="0.2")
MONTH = 30 * 86_400


def grants(people: Simulation) -> list[Grant]:
    """Three consents, one a purpose: each covers what its question reads, and nothing else of the vault."""
    water, movements = people.schema("water"), people.schema("movements")
    return [
        Grant(
            water, HOUSES.name, GRANTED, columns=("month", "m3", "mesh", "moved_out"), reads=(movements,)
        ),
        Grant(people.schema("trips"), FLOW.name, GRANTED, columns=("at", "to_mesh")),
        Grant(people.schema("opinions"), VOICES.name, GRANTED, columns=("topic",)),
    ]  # fmt: skip


def questions(people: Simulation) -> list[tuple[str, str, ds.Query, ds.Loss, str, pl.DataFrame]]:
    """Name, title, question, loss, purpose, and the rows for the exact answer."""
    water, told = people.schema("water"), people.truth["water"]
    last = ds.query(water).where(ds.col("month") == LAST)
    unused = last.where((ds.col("m3") <= LOW) & ds.col("moved_out").is_in([True]))
    arrived = ds.query(people.schema("trips")).keys("to_mesh", ds.hour("at"))
    about = ds.query(people.schema("opinions")).keys("topic")
    return [
        (
            "unused", f"Houses that may stand empty: up to {LOW:.0f} m3 of water in {LAST}, a notice of moving out",
            unused.keys("mesh").bound(rows=1, keys=1).distinct(), ds.zcdp(rho="0.05"), HOUSES.name, told,
        ),
        (
            "houses", "All houses with a meter",
            last.keys("mesh").bound(rows=1, keys=1).distinct(), ds.zcdp(rho="0.05"), HOUSES.name, told,
        ),
        (
            "flow", "People who arrived, by square and hour, on one day",
            arrived.bound(rows=1, keys=MOST_TRIPS).distinct(), ds.zcdp(rho="0.1"), FLOW.name, people.rows("trips"),
        ),
        (
            "topics", "Residents who wrote about each topic",
            about.bound(rows=MOST_OPINIONS, keys=MOST_OPINIONS).distinct(), ds.zcdp(rho="0.1"), VOICES.name,
            people.rows("opinions"),
        ),
    ]  # fmt: skip


def run(residents: int, seed: int, tell: Teller) -> Outcome:
    people = maebashi(residents, seed)
    texts = people.truth["texts"]
    with city_of("Maebashi", [HOUSES, FLOW, VOICES]) as (folder, city):
        enrolled = admit(people, city, grants(people), folder, tell)
        asked = tuple(
            ask(city, name, title, query, loss, purpose, rows, tell)
            for name, title, query, loss, purpose, rows in questions(people)
        )
        empty, found = people.truth["houses"]["empty"], asked[0].rows.filter(
            month=LAST, moved_out=True
        ).filter(pl.col("m3") <= LOW)["resident"]  # fmt: skip
        right = int(empty.gather(found).sum())
        meant = texts.filter(pl.col("topic") == pl.col("meant")).height
        facts: dict[str, Any] = {
            "really_empty": int(empty.sum()), "told_by_the_rule": len(found), "of_them_really_empty": right,
            "opinions": texts.height, "opinions_whose_topic_was_told_rightly": meant,
        }  # fmt: skip
        tell.say(
            f"What no interval covers, and only a simulation knows: of {facts['really_empty']} empty houses the rule "
            f"finds {right}, and {len(found) - right} that are not empty; of {texts.height} opinions the device told "
            f"the topic of {meant} rightly.\n"
        )
        facts["called"] = _called(city, enrolled, tell)
        return Outcome(
            "maebashi", (people,), asked, _refusals(people, city, enrolled, asked[0], tell), city.budget,
            city.remaining, facts,
        )  # fmt: skip


def _called(city: ds.City, enrolled: Enrolled, tell: Teller) -> dict[str, bool]:
    """What a resident is called in the city: one name a programme and month, and none that leads to another."""
    with enrolled.open(0) as resident:

        def called(programme: str, at: int) -> bytes:
            return resident.pseudonym(city.id, domain="mobility", programme=programme, period=MONTH, at=at)

        first = called(FLOW.name, 1_800_000_000)
        told = {
            "the same within a month": first == called(FLOW.name, 1_800_000_000 + 60),
            "the same the month after": first == called(FLOW.name, 1_800_000_000 + MONTH),
            "the same in another programme": first == called(HOUSES.name, 1_800_000_000),
        }  # fmt: skip
    tell.say(f"a resident's name in the programme {FLOW.name!r} this month: {first.hex()[:16]}...")
    for what, holds in told.items():
        tell.say(f"  {what}: {'yes' if holds else 'no'}")
    tell.say()
    return told


def my_number(first: str = "12345678901") -> str:
    """Twelve digits that pass for a My Number; nobody's, as far as anybody can know."""
    return first + str(check_digit(first))


def _refusals(people: Simulation, city: ds.City, enrolled: Enrolled, first: Asked, tell: Teller) -> tuple[Refused, ...]:
    """A My Number, however it comes; an opinion as it was written; what a consent does not cover."""
    number, opinions = my_number(), people.schema("opinions")
    account = ds.Schema("accounts", domain="administration", columns={"number": ds.Integer(0, 10**13, unit="thing")})
    written = people.truth["texts"]["text"].first() or "バスの本数を増やしてほしい"
    row = {"month": LAST, "topic": topic(str(written)), "stance": "for", "satisfaction": 3}
    with enrolled.open(0) as resident:
        return (
            refuse(
                "a column for twelve-digit numbers that are no quantity",
                lambda: ds.Integer(0, 10**12), ds.InvalidQueryError, tell,
            ),
            refuse(
                "a My Number in a row",
                lambda: resident.put(account, [{"number": int(number)}]), ds.InvalidDataError, tell,
            ),
            refuse(
                "a My Number among the categories of a column, in groups",
                lambda: ds.Category(["-".join((number[:4], number[4:8], number[8:]))]), ds.InvalidQueryError, tell,
            ),
            refuse(
                "a My Number in a question",
                lambda: ds.query(account).where(ds.col("number") == int(number)), ds.InvalidQueryError, tell,
            ),
            refuse(
                "an opinion with its text: no table has a place for it",
                lambda: resident.put(opinions, [{**row, "text": written}]), ds.InvalidDataError, tell,
            ),
            refuse(
                "the houses, for the purpose for which phones take part, to more than the budget has left",
                lambda: city.release(first.release.query, loss=ds.zcdp(rho="0.9"), purpose=FLOW.name),
                ds.BudgetExceededError, tell,
            ),
        )  # fmt: skip


def picture(outcome: Outcome) -> str:
    from datasov.sim import picture as draw

    unused, flow = outcome.of("unused"), outcome.of("flow")
    told = numbers(flow, "residents")
    busiest = told.group_by("to_mesh", maintain_order=True).agg(pl.col("value").sum()).top_k(3, by="value")["to_mesh"]
    hours = [f"{h}" for h in range(24)]
    with draw.sheet(
        "Maebashi: houses that may stand empty, and people by hour", outcome.simulations, [1, 1.25], height=4.9
    ) as (
        figure,
        axes,
    ):
        draw.heading(
            axes[0],
            "Houses hardly any water was drawn in",
            f"by square of 1 km (JIS X 0410); loss {unused.release.loss}",
        )
        draw.squares(axes[0], squares(), numbers(unused, "residents"), "houses, with their 95 % interval")
        draw.heading(
            axes[1], "People who arrived", f"by hour, the three busiest squares of 16; loss {flow.release.loss}"
        )
        series = [(str(code), told.filter(to_mesh=code)) for code in busiest.to_list()]
        draw.lines(axes[1], hours, series, "residents")
        axes[1].set_xlabel("hour of the day")
        draw.key(figure, dashes=True)
        return draw.render(
            figure, f"Maebashi in {len(squares())} squares: houses that may stand empty, and arrivals by hour."
        )


if __name__ == "__main__":
    sys.exit(main(__doc__, run, picture))
