"""Gates and cameras that count without a person's id: the unit of privacy is a device's day, and the door is the same.

Simulated. docs/plans/sensors.md says what that protects, and what it does not.
"""

from __future__ import annotations

import sys

import polars as pl
from plan import Asked, Outcome, Refused, Teller, admit, ask, city_of, main, numbers, refuse

import datasov as ds
from datasov.sim import Enrolled, Grant, Simulation, gates
from datasov.sim.devices import DAYS, HOURS, MOST, PLACES

PURPOSE = ds.Purpose(
    "street-planning", within="dpv:ImproveTransportMobility", ja="通りの計画", en="Planning of streets"
)
GRANTED = ds.zcdp(rho="0.2")
SEEN = 20
"""Passages of one person, for whom the loss is told."""


def for_a_person(asked: Asked, passages: int) -> float:
    """The rho that a person loses who was counted so often, whoever's device-days counted them.

    The noise fits a device-day, which moves the sums by up to sqrt(24) times the clip in all. A passage moves one sum
    by at most 1, so k of them move the sums by at most k: rho = k^2 / (2 sigma^2) (Bun and Steinke 2016, proposition
    1.6, for discrete Gaussians Canonne, Kamath and Steinke 2020, theorem 4).
    """
    scale = asked.release.scale("people_sum")
    return float(passages**2 / (2 * scale**2))


def questions(devices: Simulation) -> list[tuple[str, str, ds.Query, ds.Loss]]:
    """Name, title, question and loss."""
    schema = devices.schema("passages")
    return [
        (
            "hours", f"People counted, by place and hour, all devices and {DAYS} days together",
            ds.query(schema).keys("place", "hour").bound(rows=1, keys=24).sum("people", high=MOST), ds.zcdp(rho="0.1"),
        ),
        (
            "places", "Device-days that counted, by place",
            ds.query(schema).keys("place").bound(rows=1, keys=1).distinct(), ds.zcdp(rho="0.02"),
        ),
    ]  # fmt: skip


def run(residents: int, seed: int, tell: Teller) -> Outcome:
    devices = gates(residents, seed)
    rows = devices.rows("passages")
    with city_of("streets", [PURPOSE]) as (folder, city):
        enrolled = admit(devices, city, [Grant(devices.schema("passages"), PURPOSE.name, GRANTED)], folder, tell)
        asked = tuple(ask(city, *question, PURPOSE.name, rows, tell) for question in questions(devices))
        above = rows.filter(pl.col("people") > MOST).height
        person = for_a_person(asked[0], SEEN)
        whole = DAYS**2 * asked[0].release.loss.rho
        tell.say(
            f"{above} of {rows.height} counts lie above {MOST}, and are counted as {MOST}: a bias no interval shows"
        )
        tell.say(
            f"a device-day loses rho = {asked[0].release.loss.rho}; one device over its {DAYS} days up to {whole:g}"
        )
        tell.say(f"a person who was counted {SEEN} times loses rho = {person:.2e}\n")
        facts = {"clipped": above, "counts": rows.height, "rho_of_a_person": person, "rho_of_a_device": whole}
        refused = _refusals(devices, city, enrolled, asked[0], tell)
        return Outcome("sensors", (devices,), asked, refused, city.budget, city.remaining, facts)


def _refusals(
    devices: Simulation, city: ds.City, enrolled: Enrolled, first: Asked, tell: Teller
) -> tuple[Refused, ...]:
    """The same door: counts come in by a consent, sealed and signed, and go out with noise."""
    schema, (consent,) = devices.schema("passages"), enrolled.consents[0]
    query = first.release.query
    with enrolled.open(0) as device:
        sent = device.contribute(consent)
    with enrolled.open(1) as other:
        borrowed = other.contribute(enrolled.consents[1][0])
    return (
        refuse(
            "counts that a device sends without a vault, as JSON",
            lambda: city.admit(consent, b'{"place": "station", "hour": "08", "people": 9}'),
            ds.VerificationError, tell,
        ),
        refuse("one device's counts under the consent of another", lambda: city.admit(consent, borrowed),
            ds.DatasovError, tell),
        refuse("a contribution with one byte changed", lambda: city.admit(consent, sent[:-1] + bytes([sent[-1] ^ 1])),
            ds.VerificationError, tell),
        refuse("a camera's name as a column that was never declared",
            lambda: ds.query(schema).keys("camera").bound(rows=1, keys=1).count(), ds.InvalidQueryError, tell),
        refuse("the sums without a bound",
            lambda: city.release(ds.query(schema).keys("place").sum("people"), loss=ds.zcdp(rho="0.1"),
            purpose=PURPOSE.name), ds.InvalidQueryError, tell),
        refuse("the first question for a search of persons",
            lambda: city.release(query, loss=first.release.loss, purpose="search"), ds.ConsentError, tell),
    )  # fmt: skip


def picture(outcome: Outcome) -> str:
    from datasov.sim import picture as draw

    hours = outcome.of("hours")
    told, rho = numbers(hours, "people_sum"), hours.release.loss.rho
    labels = [p.replace("-", " ") for p in PLACES]
    with draw.sheet("Gates and cameras: the unit is a device's day", outcome.simulations, [1.7, 1]) as (figure, axes):
        draw.heading(
            axes[0],
            "People counted",
            f"by hour, all devices, {DAYS} days together; loss {hours.release.loss} a device-day",
        )
        series = [(name, told.filter(place=p)) for name, p in zip(labels, PLACES, strict=True)]
        draw.lines(axes[0], HOURS, series, "people")
        axes[0].set_xlabel("hour of the day")
        draw.heading(
            axes[1], "Who loses how much by this answer", "the unit is a device's day; the others follow from it"
        )
        named = ("1 passage", f"{SEEN} passages", "a device's day", f"a device, {DAYS} days")
        losses = (for_a_person(hours, 1), for_a_person(hours, SEEN), rho, outcome.facts["rho_of_a_device"])
        draw.losses(axes[1], named, losses)
        draw.key(figure, dashes=True)
        return draw.render(
            figure, f"People counted by hour at {', '.join(labels)}; and what a passage, a day and a device lose."
        )


if __name__ == "__main__":
    sys.exit(main(__doc__, run, picture))
