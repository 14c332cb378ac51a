"""The page's words in Japanese and English, and the language that a browser asks for."""

from __future__ import annotations

import datetime as dt
import functools
import tomllib
from collections.abc import Mapping
from importlib import resources

LANGUAGES = ("ja", "en")


@functools.cache
def words(language: str) -> Mapping[str, str]:
    """Every text of a language by its name, as `section.name`."""
    found = tomllib.loads(resources.files(__name__).joinpath(f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, texts in found.items() for name, text in texts.items()}


def say(language: str, name: str, /, **values: object) -> str:
    """One text, plain: whoever puts it into a page escapes it."""
    return words(language)[name].format(**values)


def accepted(header: str) -> str:
    """The language of an Accept-Language header (RFC 9110, section 12.5.4): the one preferred, Japanese or English."""
    best, found = 0.0, "en"
    for part in header.split(",")[:32]:
        tag, _, more = part.strip().partition(";")
        try:
            weight = float(more.strip().removeprefix("q=")) if more.strip() else 1.0
        except ValueError:
            continue
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and weight > best:
            best, found = weight, language
    return found


def day(language: str, seconds: float) -> str:
    """The local day of a time, as people write it."""
    try:
        when = dt.datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):  # a log may say any second up to the end of 9999 in UTC
        return "?"
    return f"{when.year}年{when.month}月{when.day}日" if language == "ja" else f"{when.day} {when:%B} {when.year}"
