"""What a refusal says: the line and column, the fragment, and what to write instead."""

from __future__ import annotations

from sqlglot import Token, exp

from datasov.errors import InvalidQueryError

MAX_FRAGMENT = 60
"""Characters of the SQL that a message quotes."""


def refuse(node: exp.Expression, message: str) -> InvalidQueryError:
    """The error to raise about a part of the tree. Positions are those of its first token that sqlglot kept."""
    found = [n.meta for n in node.walk() if "line" in n.meta]
    first = min(found, key=lambda m: m["start"], default=None)
    place = ""
    if first is not None:
        place = f"line {first['line']}, column {max(first['col'] - (first['end'] - first['start']), 1)}, "
    try:
        fragment = _short(node.sql(comments=False))
    except RecursionError:
        fragment = "…"
    return InvalidQueryError(f"SQL, {place}{fragment}: {message}")


def refuse_token(token: Token, message: str) -> InvalidQueryError:
    """The error to raise about a token."""
    column = max(token.col - (token.end - token.start), 1)
    return InvalidQueryError(f"SQL, line {token.line}, column {column}, {_short(token.text)}: {message}")


def only(node: exp.Expression, *arguments: str, message: str = "this form is not in the subset of docs/sql.md") -> None:
    """Raise InvalidQueryError where a node holds more than the named parts: nothing is passed over in silence."""
    if any(value for name, value in node.args.items() if name not in arguments):
        raise refuse(node, message)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_FRAGMENT else text[: MAX_FRAGMENT - 1] + "…"
