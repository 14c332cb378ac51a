"""What the plans share: a city of simulated residents, questions with what they cost, refusals, and how it is told."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import polars as pl

import datasov as ds
from datasov.sim import MARK, Enrolled, Grant, Simulation, compare, covered, cut, enrol

DELTA = 1e-6
"""For telling a loss as an epsilon, too."""
MOST_LINES = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and its answer.

    Attributes:
        name, title: for code, and for people. rows: what the exact answers are counted from.
        table: the release's frame beside what is exact. bounds_cut: residents of whom the bounds left something out.
    """

    name: str
    title: str
    preview: ds.Preview
    release: ds.Release
    rows: pl.DataFrame
    table: pl.DataFrame
    bounds_cut: int
    seconds: float

    def document(self) -> dict[str, Any]:
        inside, intervals = covered(self.table)
        return {
            "name": self.name, "title": self.title, "rho": self.release.loss.rho,
            "epsilon": round(self.release.loss.epsilon(DELTA), 3), "delta": DELTA,
            "expected": self.preview.frame.to_dicts(), "energy": self.preview.energy.document(),
            "bounds_cut": self.bounds_cut,
            "covered": inside, "intervals": intervals, "seconds": round(self.seconds, 3),
            "cells": self.table.with_columns(pl.selectors.enum().cast(pl.String)).to_dicts(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refused:
    """What was tried, and why it was refused."""

    tried: str
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of one run of a plan. `facts` are further things that it shows, by name."""

    plan: str
    simulations: tuple[Simulation, ...]
    asked: tuple[Asked, ...]
    refused: tuple[Refused, ...]
    budget: ds.Loss
    remaining: ds.Loss
    facts: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Asked:
        return next(a for a in self.asked if a.name == name)

    def document(self) -> dict[str, Any]:
        return {
            "plan": self.plan, MARK: True, "about": [s.about for s in self.simulations],
            "questions": [a.document() for a in self.asked],
            "refused": [{"tried": r.tried, "error": r.error, "reason": r.reason} for r in self.refused],
            "budget_rho": self.budget.rho, "remaining_rho": self.remaining.rho, "facts": self.facts,
        }  # fmt: skip


class Teller:
    """Says on a stream what happens, as it happens; a count on a terminal alone."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out, self._told = out, set[str]()

    def say(self, text: str = "") -> None:
        if self._out is not None:
            print(text, file=self._out, flush=True)

    def assumed(self, simulation: Simulation) -> None:
        """What a generator takes for granted, told once."""
        if simulation.name not in self._told:
            self._told.add(simulation.name)
            for assumption in simulation.assumptions:
                self.say(f"  assumed: {assumption}")

    def count(self, done: int, total: int) -> None:
        if self._out is not None and sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{MARK} residents: vaults, consents, contributions {done:,}/{total:,}", end=end, file=sys.stderr)


@contextlib.contextmanager
def city_of(name: str, purposes: list[str | ds.Purpose], **given: Any) -> Iterator[tuple[Path, ds.City]]:
    """A city in a folder that is gone afterwards, which says in its name that it is simulated; a budget of rho = 1."""
    with tempfile.TemporaryDirectory(prefix="datasov-plan-") as folder:
        budget = given.pop("budget", ds.zcdp(rho=1))
        path = Path(folder) / "plan.city"
        with ds.City.open(path, name=f"{MARK} {name}", budget=budget, purposes=purposes, **given) as city:
            yield Path(folder), city


def admit(simulation: Simulation, city: ds.City, grants: list[Grant], folder: Path, tell: Teller) -> Enrolled:
    """Every resident of the simulation, with a vault, their consents and their rows."""
    tell.say(f"{simulation!r}")
    tell.assumed(simulation)
    began = time.perf_counter()
    enrolled = enrol(simulation, city, grants, folder / "vaults", progress=tell.count)
    took = time.perf_counter() - began
    tell.say(f"{simulation.residents:,} vaults, {len(grants)} consents at most in each, admitted in {took:.1f} s\n")
    return enrolled


def ask(
    city: ds.City,
    name: str,
    title: str,
    query: ds.Query,
    loss: ds.Loss,
    purpose: str,
    rows: pl.DataFrame,
    tell: Teller,
    shown: Mapping[str, Sequence[object]] | None = None,
) -> Asked:
    """Preview, release, and compare with what is exact.

    Args:
        rows: of those who consented, with all columns that the question reads: :func:`datasov.sim.compare`.
        shown: of these keys only these values are told on the console: for those that the `where` leaves.
    """
    began = time.perf_counter()
    expected = city.preview(query, loss=loss)
    release = city.release(query, loss=loss, purpose=purpose)
    took = time.perf_counter() - began
    asked = Asked(name, title, expected, release, rows, compare(release, rows), cut(query, rows), took)
    tell.say(title)
    tell.say(f"  costs {loss} (epsilon {loss.epsilon(DELTA):.2f} at delta {DELTA:.0e}); left {city.remaining}")
    joules = [expected.energy.joules(n) for n in (0, 1000)]
    tell.say(f"  energy, estimated: {joules[0]:.2g} J, and {joules[1] - joules[0]:.2g} J for every 1,000 residents")
    for row in expected.frame.iter_rows(named=True):
        tell.say(f"  expected: {row['statistic']} ± {row['margin']:,.0f} in 95 of 100")
    _tell_table(asked, shown or {}, tell)
    inside, intervals = covered(asked.table)
    tell.say(f"  {inside} of {intervals} intervals hold what is exact; bounds cut {asked.bounds_cut} residents\n")
    return asked


def _tell_table(asked: Asked, shown: Mapping[str, Sequence[object]], tell: Teller) -> None:
    keys = [k.name for k in asked.release.query.key_list]
    names = [n.removesuffix("_exact") for n in asked.table.columns if n.endswith("_exact")]
    told_of = asked.table.filter(pl.col(k).is_in(list(v)) for k, v in shown.items()) if shown else asked.table
    for row in told_of.head(MOST_LINES).iter_rows(named=True):
        told = "; ".join(
            f"{n} {row[n]:,.0f} [{row[n + '_low']:,.0f}, {row[n + '_high']:,.0f}] exact {row[n + '_exact']:,.0f}"
            for n in names
            if row[n + "_exact"] is not None
        )
        tell.say(f"    {' '.join(str(row[k]) for k in keys):<28} {told}")
    if (more := asked.table.height - min(told_of.height, MOST_LINES)) > 0:
        tell.say(f"    and {more} cells more: --json has them all")


def refuse(tried: str, attempt: Callable[[], object], error: type[ds.DatasovError], tell: Teller) -> Refused:
    """What must be refused; an AssertionError where it is not, or for another reason than this."""
    try:
        attempt()
    except error as why:
        tell.say(f"refused: {tried}\n  {type(why).__name__}: {why}")
        return Refused(tried, type(why).__name__, str(why))
    raise AssertionError(f"not refused: {tried}")


def shares(
    asked: Asked, column: str, part: str, rest: str, statistic: str = "count", *, confidence: float = 0.95
) -> pl.DataFrame:
    """The share of one value of a key among two, in each cell of the other keys: value, low, high, exact.

    It is made of the release alone and costs nothing. Both numbers lie within their intervals at once with at least
    this confidence (each has half of the error), and the share grows with one and falls with the other: so it lies
    between the two ends.
    """
    keys = [k.name for k in asked.release.query.key_list if k.name != column]
    told = compare(asked.release, asked.rows, 1 - (1 - confidence) / 2)
    wanted = [statistic, *(statistic + side for side in ("_low", "_high", "_exact"))]
    one, other = (
        told.filter(pl.col(column) == value).select(*keys, pl.col(wanted).cast(pl.Float64)) for value in (part, rest)
    )
    both = one.join(other, on=keys, suffix="_rest", maintain_order="left") if keys else one.hstack(
        other.select(pl.all().name.suffix("_rest"))
    )  # fmt: skip

    def share(side: str, against: str) -> pl.Expr:
        top, rest_ = pl.col(statistic + side).clip(0), pl.col(f"{statistic}{against}_rest").clip(0)
        return (top / (top + rest_)).fill_nan(0 if side == "_low" else 1)

    return both.select(
        *keys, value=share("", ""), low=share("_low", "_high"), high=share("_high", "_low"),
        exact=share("_exact", "_exact"),
    )  # fmt: skip


def part_of(part: Asked, whole: Asked, statistic: str, *, confidence: float = 0.95) -> pl.DataFrame:
    """The share of one question's number in another's, in each cell: value, low, high, exact. As :func:`shares`."""
    keys = [k.name for k in whole.release.query.key_list]
    one, other = (compare(a.release, a.rows, 1 - (1 - confidence) / 2) for a in (part, whole))
    both = one.join(other, on=keys, suffix="_of", maintain_order="left", validate="1:1")

    def share(side: str, against: str) -> pl.Expr:
        top, all_ = pl.col(statistic + side).clip(0), pl.col(f"{statistic}{against}_of").clip(0)
        return pl.when(all_ > 0).then((top / all_).clip(0, 1)).otherwise(0 if side == "_low" else 1)

    return both.select(
        *keys, value=share("", ""), low=share("_low", "_high"), high=share("_high", "_low"),
        exact=share("_exact", "_exact"),
    )  # fmt: skip


def numbers(asked: Asked, statistic: str) -> pl.DataFrame:
    """One statistic of a question as value, low, high, exact, behind its keys."""
    keys = [k.name for k in asked.release.query.key_list]
    sides = {"value": "", "low": "_low", "high": "_high", "exact": "_exact"}
    return asked.table.select(*keys, **{side: pl.col(statistic + end) for side, end in sides.items()})


def main(
    about: str | None,
    run: Callable[..., Outcome],
    picture: Callable[[Outcome], str],
    *,
    residents: int = 300,
    more: Mapping[str, str] | None = None,
    argv: list[str] | None = None,
) -> int:
    """The command line of a plan.

    Args:
        run: takes the residents, the seed, a :class:`Teller`, and by name whatever of `more` was given.
        more: further options, each with its help.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residents", type=int, default=residents, help="how many are simulated (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="fixes the simulated rows, and no noise (%(default)s)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    parser.add_argument("--image", type=Path, help="write the picture, an SVG file, here")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write the simulated rows as Parquet to a new folder"
    )
    for name, text in (more or {}).items():
        parser.add_argument(f"--{name}", help=text)
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in more or {} if getattr(options, name) is not None}
    tell = Teller(sys.stderr if options.json else sys.stdout)
    try:
        began = time.perf_counter()
        tell.say(f"All of this is {MARK}: nobody in it exists, and no number in it is about a place.\n")
        outcome = run(options.residents, options.seed, tell, **given)
        if options.write:
            for simulation in outcome.simulations:
                simulation.write(options.write / simulation.title)
        if options.image:
            options.image.parent.mkdir(parents=True, exist_ok=True)
            options.image.write_text(picture(outcome), encoding="utf-8")
        tell.say(f"\nleft of the budget: {outcome.remaining} of {outcome.budget}; {time.perf_counter() - began:.1f} s")
    except ds.DatasovError as why:
        print(f"{type(why).__name__}: {why}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(outcome.document(), ensure_ascii=False, default=str), flush=True)
    return 0
