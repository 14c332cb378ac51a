"""What the city's page says, in English and Japanese."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

Language: TypeAlias = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@cache
def words(language: Language) -> Mapping[str, str]:
    """All texts in a language, by name."""
    texts = tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: str(text[language]) for name, text in texts.items()})


def preferred(wanted: str | None, accepted: str) -> Language:
    """The language to answer in: the one asked for, else the first known of an Accept-Language header, else English.

    Weights are honoured (RFC 9110, section 12.5.4).
    """
    for language in LANGUAGES:
        if wanted == language:
            return language
    found = list[tuple[float, int, Language]]()
    for place, part in enumerate(accepted[:512].split(",")):
        tag, _, weight = part.partition(";")
        for language in LANGUAGES:
            if tag.strip().lower().split("-")[0] == language:
                found.append((-_weight(weight), place, language))
    return min(found)[2] if found else "en"


def _weight(text: str) -> float:
    name, _, number = text.strip().partition("=")
    try:
        return min(max(float(number), 0.0), 1.0) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
