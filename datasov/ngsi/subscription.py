"""The consumer's side: what to ask a broker for, and what it sends when a value changes.

A subscription delivers what the publisher put there: a stored release. It draws no noise and costs no budget.
"""

from __future__ import annotations

from typing import Any

from datasov.errors import InvalidDataError, InvalidQueryError
from datasov.ngsi.broker import Dialect
from datasov.ngsi.context import context
from datasov.ngsi.reading import Reading, read
from datasov.ngsi.texts import safe

WATCHED = ("releaseId", "step")
"""Beside the value: a newer answer may be the same number, and is news all the same."""


def subscription(
    url: str, *, dialect: Dialect = "ngsiv2", id_pattern: str = ".*", query: str | None = None,
    type_: str = "DPStatistic",
) -> dict[str, Any]:  # fmt: skip
    """The body of a subscription: POST it to /v2/subscriptions, or to /ngsi-ld/v1/subscriptions as application/ld+json.

    Args:
        url: where the broker is to send notifications.
        id_pattern: a regular expression over ids; NGSIv2 alone needs one.
        query: only answers to this question, by its hash.

    Raises:
        InvalidQueryError: a URL that is none.
    """
    if not url.startswith(("http://", "https://")) or safe(url) != url:
        raise InvalidQueryError("a consumer's URL begins with http:// or https://, and has no < > \" ' = ; ( ) in it")
    if dialect == "ngsi-ld":
        terms = (type_, "noisyValue", "queryHash", *WATCHED)
        return {
            "type": "Subscription", "entities": [{"type": type_}], "watchedAttributes": ["noisyValue", *WATCHED],
            **({} if query is None else {"q": f'queryHash=="{query}"'}),
            "notification": {"format": "normalized", "endpoint": {"uri": url, "accept": "application/json"}},
            "@context": context(terms),
        }  # fmt: skip
    condition: dict[str, Any] = {"attrs": ["value", *WATCHED]}
    if query is not None:
        condition["expression"] = {"q": f"queryHash=={query}"}
    return {
        "subject": {"entities": [{"idPattern": id_pattern, "type": type_}], "condition": condition},
        "notification": {"http": {"url": url}, "metadata": ["*"]},
    }


def notified(body: bytes) -> list[Reading]:
    """The entities of a notification, of either dialect and in any form.

    Raises:
        InvalidDataError: it is none.
    """
    found, faults = read(body)
    if faults:
        raise InvalidDataError(faults[0].reason)
    return found
