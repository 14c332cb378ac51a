"""Six cities, each with columns of its own: one question, published to an Orion-style broker of each.

Simulated. docs/plans/brokers.md says what is common and what is each city's own. Without --broker each city has a
stand-in for Orion on this machine, of the project's tests; run it in a checkout then.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from plan import Asked, Outcome, Refused, Teller, admit, ask, city_of, main, numbers, refuse

import datasov as ds
from datasov.ngsi import Broker, Outbox, pieces, publish
from datasov.ngsi.broker import client, exchange
from datasov.ngsi.texts import plain
from datasov.sim import Grant, on_demand
from datasov.sim.rides import MOST_RIDES, PLACES, Place

PURPOSE = ds.Purpose("ride-planning", within="dpv:ImproveTransportMobility", ja="乗合の計画", en="Planning of rides")
LOSS, GRANTED = ds.zcdp(rho="0.1"), ds.zcdp(rho="0.2")
SERVICES = ("volunteer", "on-demand-bus", "shared-taxi", "taxi", "car-share", "cycle-share")


def question() -> ds.Query:
    """Written once, over the catalogue's table, for cities that nobody had heard of then."""
    return ds.query(ds.catalogue.schema("rides")).keys("service").bound(rows=MOST_RIDES, keys=6).distinct()


@contextlib.contextmanager
def broker_of(place: Place, url: str | None) -> Iterator[Broker]:
    """A city's broker: a tenant of the one at the URL, or a stand-in of its own."""
    service = place.name.replace("-", "_")
    if url is not None:
        yield Broker(url, service=service, path="/dp")
        return
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.append(root)
    try:
        from tests.orion import Orion, served
    except ModuleNotFoundError:
        raise ds.StoreError("the stand-in for Orion lies in a checkout's tests: name a broker with --broker") from None
    with served(Orion()) as (own, _):
        yield Broker(own, service=service, path="/dp", retries=0)


def held(broker: Broker) -> list[dict[str, Any]]:
    """What the broker holds of our type, asked for as any dashboard does."""
    import json

    with client(broker) as sender:
        del sender.headers["Content-Type"]
        status, _, body = exchange(sender, "GET", "/v2/entities?type=DPStatistic&limit=100", None)
    if status != 200:
        raise ds.PeerError(f"the broker does not show its entities: status {status}")
    found: list[dict[str, Any]] = json.loads(body)
    return found


def one_city(place: Place, residents: int, seed: int, url: str | None, tell: Teller) -> tuple[Any, ...]:
    """A city of its own: residents, the common question, its release at the city's broker, read back from there."""
    people = on_demand(residents, seed, place.name)
    own, (_, rows) = people.tables[0][0], people.tables[0]
    tell.say(f"== {place.label.en} {place.label.ja} ({place.code}), with its own column {', '.join(place.own)}")
    with city_of(place.name, [PURPOSE], processing="JP-" + place.code[:2]) as (folder, city):
        admit(people, city, [Grant(own, PURPOSE.name, GRANTED)], folder, tell)
        query = ds.catalogue.onto(question(), own)
        asked = ask(city, place.name, "Residents who took a ride, by service", query, LOSS, PURPOSE.name, rows, tell)
        with broker_of(place, url) as broker, Outbox(folder / "outbox") as outbox:
            first = publish(pieces(city), broker, outbox)
            first.check()
            again = publish(pieces(city), broker, outbox)
            mine = [e for e in held(broker) if e["releaseId"]["value"] == asked.release.identifier.hex()]
            told = {plain(e["key_service"]["value"]): e["value"]["value"] for e in mine}
            same = told == dict(numbers(asked, "residents").select("service", "value").iter_rows())
            fact = {
                "entities": first.entities, "delivered_again": len(again.delivered), "read_back_is_the_release": same,
                "city": mine[0]["city"]["value"], "class": mine[0]["informationClass"]["value"],
            }  # fmt: skip
            tell.say(f"at its broker: {fact}\n")
            refused = _refusals(city, own, place, folder, tell) if place is PLACES[0] else ()
        return people, asked, fact, refused, city.budget, city.remaining


def _refusals(city: ds.City, own: ds.Schema, place: Place, folder: Path, tell: Teller) -> tuple[Refused, ...]:
    (column,) = place.own
    rides = ds.catalogue.schema("rides")
    changed = {**rides.columns, "wait": ds.Integer(0, 10_000, unit="min")}
    other = ds.Schema("rides", domain="mobility", columns=changed)

    def nowhere() -> None:
        with Outbox(folder / "nowhere") as outbox:
            publish(pieces(city), Broker("http://127.0.0.1:9", retries=0, timeout=2), outbox).check()

    return (
        refuse(
            f"the common question by {column}, which the common table does not have",
            lambda: question().keys(column), ds.InvalidQueryError, tell,
        ),
        refuse(
            "a table that gives a common column another meaning",
            lambda: ds.catalogue.onto(question(), other), ds.InvalidQueryError, tell,
        ),
        refuse(
            "an extension with a column of the common table's name",
            lambda: ds.catalogue.extend(own, columns={"wait": ds.Integer(0, 5)}), ds.InvalidQueryError, tell,
        ),
        refuse("a release at a broker that is not there", nowhere, ds.PeerError, tell),
    )  # fmt: skip


def run(residents: int, seed: int, tell: Teller, broker: str | None = None) -> Outcome:
    each = max(residents // len(PLACES), 1)
    found = [one_city(place, each, seed, broker, tell) for place in PLACES]
    asked: list[Asked] = [f[1] for f in found]
    facts: dict[str, Any] = {p.name: f[2] for p, f in zip(PLACES, found, strict=True)}
    expected = {a.preview.frame.rows()[0] for a in asked}
    facts["same_expected_error"] = len(expected) == 1
    tell.say(f"the same error was expected in all six: {'yes' if len(expected) == 1 else 'no'}")
    refused = tuple(r for f in found for r in f[3])
    return Outcome("brokers", tuple(f[0] for f in found), tuple(asked), refused, found[0][4], found[0][5], facts)


def picture(outcome: Outcome) -> str:
    from datasov.sim import picture as draw

    rows = [f"{p.label.en}\n+ {', '.join(p.own)}" for p in PLACES]
    told = [
        numbers(asked, "residents").sort(pl.col("service").cast(pl.Enum(SERVICES))) for asked in outcome.asked
    ]  # fmt: skip
    with draw.sheet("One question, six cities, six brokers", outcome.simulations, [1], height=5.2) as (figure, axes):
        draw.heading(
            axes[0], "Residents who took a ride in June", f"in each city, with 95 % interval; loss {LOSS} each"
        )
        draw.matrix(axes[0], rows, [s.replace("-", " ") for s in SERVICES], told)
        return draw.render(figure, "Residents who took a ride, by service, in six cities, each at its own broker.")


if __name__ == "__main__":
    broker = "http://HOST:1026 of an Orion, where each city is a tenant; leave it out for stand-ins on this machine"
    sys.exit(main(__doc__, run, picture, more={"broker": broker}))
