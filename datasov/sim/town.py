"""Maebashi as a prototype sees it: houses with water meters, phones that move between squares, written opinions."""

from __future__ import annotations

import functools
import re

import numpy as np
import numpy.typing as npt
import polars as pl

from datasov import catalogue
from datasov.errors import InvalidQueryError
from datasov.model.derived import Exists
from datasov.model.predicate import col
from datasov.model.schema import Schema, hour
from datasov.sim.draw import Whole, check_size, choose, either, repeated, stream
from datasov.sim.simulation import RESIDENT, Simulation

BOX = (36.3751, 139.0501, 36.4082, 139.0999)
"""South, west, north, east of sixteen squares of 1 km around the middle of Maebashi, JIS X 0410."""
MONTHS = ("2027-07", "2027-08", "2027-09")
LAST, LOW = MONTHS[-1], 1.0
"""The month that is asked for, and the cubic metres up to which a house counts as unused in it."""
DAY = np.datetime64("2027-05-17T00:00", "us")
MOST_TRIPS, MOST_OPINIONS = 6, 3

WORDS = {
    "mobility": ("バス", "送迎", "bus"), "health": ("病院", "診療", "clinic"),
    "childcare": ("保育", "子育て", "nursery"), "disaster": ("避難", "防災", "flood"),
    "environment": ("ごみ", "緑", "waste"), "digital": ("オンライン", "アプリ", "online"),
}  # fmt: skip
"""What a topic is told by, on the device: plain words."""
TEXTS = {
    "mobility": ("バスの本数を増やしてほしい", "夜も送迎があると助かる", "足がない", "A bus to the hospital, please"),
    "health": ("病院が遠い", "救急車がなかなか来ない", "The clinic closes too early"),
    "childcare": ("保育の空きがない", "子どもの遊び場がほしい", "No place at the nursery"),
    "disaster": ("避難所が遠い", "防災の訓練を週末に", "Where do we go in a flood?"),
    "environment": ("ごみの日を増やして", "川沿いに緑を", "Less waste in the park"),
    "digital": ("オンラインで手続したい", "アプリが使いにくい", "More online, less paper"),
    "other": ("いつもありがとうございます", "担当者が親切だった", "No comment"),
}  # fmt: skip
STANCES = {"for": 0.3, "rather-for": 0.25, "neutral": 0.2, "rather-against": 0.15, "against": 0.1}

ASSUMPTIONS = (
    "Empty houses: 4 to 30 in 100 by square; the survey of 2023 counted about 14 in 100 in Japan, by memory.",
    "An empty house draws at most 0.8 cubic metres a month, or none; four of five have a notice of moving out.",
    "Three occupied houses in 100 draw as little (somebody is away), and one in 25 has a notice of moving out.",
    "A phone arrives two to six times on a weekday, at work from 7 to 9, at home from 17 to 20.",
    "Half of the residents wrote one to three opinions; the topic is told by plain words on the device.",
    "All numbers are this project's own, chosen to be plausible; none is a statistic of Maebashi.",
)


@functools.cache
def squares() -> tuple[str, ...]:
    """The codes of the sixteen squares, from the south-west eastwards, then northwards."""
    return tuple(str(c) for c in catalogue.mesh.within(*BOX))


@functools.cache
def water() -> Schema:
    """The catalogue's water meters with the house's square, and whether a notice of moving out was given."""
    out = Exists(catalogue.schema("movements"), where=col("event") == "move-out")
    return catalogue.extend(
        catalogue.schema("water"), columns={"mesh": catalogue.mesh.column(*BOX), "moved_out": out}, keys=[("mesh",)]
    )


@functools.cache
def trips() -> Schema:
    """The catalogue's trips with the square of arrival."""
    return catalogue.extend(
        catalogue.schema("trips"), columns={"to_mesh": catalogue.mesh.column(*BOX)}, keys=[("to_mesh", hour("at"))]
    )


def maebashi(residents: int, seed: int) -> Simulation:
    """Maebashi: `water`, `movements`, `trips`, `opinions` of residents who answer for one house each.

    `truth["water"]` has the derived column; `truth["houses"]` says which ones really stand empty (`empty`), by square;
    `truth["texts"]` has each opinion as it was written, what it was about (`meant`) and the topic that the device told.

    Raises:
        InvalidQueryError: not a number of residents, or no seed.
    """
    check_size(residents, seed)
    rng = functools.partial(stream, seed, "maebashi")
    home = rng("home").choice(16, residents, p=_weights())
    water_, movements, houses = _houses(rng, home)
    moves = _trips(rng, home)
    opinions, texts = _opinions(rng, residents)
    shown = water_.with_columns(moved_out=pl.col(RESIDENT).is_in(movements[RESIDENT].implode()))
    return Simulation(
        "maebashi", seed, residents,
        (
            (water(), water_), (catalogue.schema("movements"), movements), (trips(), moves),
            (catalogue.schema("opinions"), opinions),
        ),
        ASSUMPTIONS, {"water": shown, "houses": houses, "texts": texts},
    )  # fmt: skip


_WORK = [0.02] * 5 + [0.32, 0.22] + [0.02] * 2 + [0.12, 0.1] + [0.02] * 5


def _weights() -> npt.NDArray[np.float64]:
    """More houses in the middle squares."""
    one = np.array([1.0, 1.7, 1.5, 0.9])
    weights: npt.NDArray[np.float64] = np.outer(one, one).ravel()
    weights /= weights.sum()
    return weights


def _houses(
    rng: functools.partial[np.random.Generator], home: Whole
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    n = len(home)
    share = np.array([0.10, 0.08, 0.12, 0.30, 0.06, 0.05, 0.09, 0.22, 0.07, 0.04, 0.08, 0.16, 0.14, 0.10, 0.12, 0.26])
    empty = rng("empty").random(n) < share[home]
    away = ~empty & (rng("away").random(n) < 0.03)
    closed = empty & (rng("closed").random(n) < 0.6)
    out = rng("out").random(n) < np.where(empty, 0.8, 0.04)
    who, at = repeated(np.full(n, len(MONTHS)))
    little = np.where(closed[who], 0.0, rng("little").random(len(who)) * 0.8)
    usual = np.clip(2.0 + rng("usual").gamma(2.5, 5.6, len(who)), 2.0, 80.0)
    m3 = np.round(np.where(empty[who] | away[who], little, usual), 1)
    rows = pl.DataFrame({
        RESIDENT: who, "month": pl.Series(MONTHS).gather(at),
        "reading": either(closed[who], "closed", "metered"),
        "m3": m3, "yen": (800 + 150 * m3).astype(np.int64), "mesh": pl.Series(squares()).gather(home[who]),
    })  # fmt: skip
    gone = np.flatnonzero(out)
    movements = pl.DataFrame({
        RESIDENT: gone, "month": choose(rng("month"), {"2026-10": 1, "2027-01": 1, "2027-03": 2}, len(gone)),
        "event": ["move-out"] * len(gone),
        "channel": choose(rng("channel"), {"counter": 0.7, "online": 0.3}, len(gone)),
        "people": rng("people").integers(1, 5, len(gone)),
    })  # fmt: skip
    houses = pl.DataFrame({RESIDENT: np.arange(n), "mesh": pl.Series(squares()).gather(home), "empty": empty})
    return rows, movements, houses


def _trips(rng: functools.partial[np.random.Generator], home: Whole) -> pl.DataFrame:
    counts = rng("trips").integers(2, MOST_TRIPS + 1, len(home))
    who, at = repeated(counts)
    n, last = len(who), np.repeat(counts, counts) - 1
    work = rng("work").choice(16, len(home), p=np.divide(_WORK, sum(_WORK)))
    clock = np.where(at == 0, rng("out").normal(8.0, 0.6, n), np.where(at == last, rng("in").normal(18.3, 1.2, n), 0.0))
    clock = np.where((at > 0) & (at < last), rng("between").uniform(9.5, 17.0, n), clock)
    minutes = np.clip(np.round(clock * 60), 5 * 60, 23 * 60 + 59).astype(np.int64)
    to = np.where(at == 0, work[who], np.where(at == last, home[who], rng("errand").integers(0, 16, n)))
    purpose = np.where(at == 0, "work", np.where(at == last, "home", "errand"))
    return pl.DataFrame({
        RESIDENT: who, "at": DAY + minutes.astype("timedelta64[m]"),
        "mode": choose(rng("mode"), {"car-driver": 0.62, "walk": 0.14, "bicycle": 0.13, "rail": 0.05, "bus": 0.06}, n),
        "purpose": purpose, "minutes": rng("minutes").integers(5, 61, n),
        "km": np.round(rng("km").gamma(2.0, 2.2, n).clip(0.1, 80.0), 1), "fare": np.zeros(n, dtype=np.int64),
        "to_mesh": pl.Series(squares()).gather(to),
    })  # fmt: skip


def topic(text: str) -> str:
    """The topic of a written opinion, by plain words: computed on the device, and all of it that ever leaves.

    Raises:
        InvalidQueryError: not a text.
    """
    if not isinstance(text, str):
        raise InvalidQueryError("an opinion is a text")
    found = [name for name, words in WORDS.items() if any(re.search(w, text, re.IGNORECASE) for w in words)]
    return found[0] if found else "other"


def _opinions(rng: functools.partial[np.random.Generator], n: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    wrote = rng("wrote").random(n) < 0.5
    who, _ = repeated(np.where(wrote, rng("opinions").integers(1, MOST_OPINIONS + 1, n), 0))
    m = len(who)
    shares = {"mobility": 0.31, "health": 0.2, "childcare": 0.14, "disaster": 0.12, "environment": 0.1, "digital": 0.06}
    meant = choose(rng("meant"), {**shares, "other": 0.07}, m)
    which = rng("which").random(m)
    texts = [TEXTS[t][int(u * len(TEXTS[t]))] for t, u in zip(meant.to_list(), which.tolist(), strict=True)]
    told = {text: topic(text) for text in set(texts)}
    rows = pl.DataFrame({
        RESIDENT: who, "month": choose(rng("when"), {"2027-08": 0.4, "2027-09": 0.6}, m),
        "topic": pl.Series([told[t] for t in texts], dtype=pl.String),
        "stance": choose(rng("stance"), STANCES, m),
        "satisfaction": rng("satisfaction").integers(1, 6, m),
    })  # fmt: skip
    return rows, rows.select(RESIDENT, "topic").with_columns(
        text=pl.Series(texts, dtype=pl.String), meant=pl.Series(meant)
    )
