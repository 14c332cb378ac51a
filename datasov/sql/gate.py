"""What of a text reaches the parser: its length, its depth and its words are limited first.

sqlglot reads far more SQL than the subset, and reads it leniently; on hostile text its parser recurses without a limit,
or backtracks exponentially (a chain of joins without USING). So only the words of the subset pass, each construct that
could nest is counted, and a word that is a keyword elsewhere passes only as the name of a declared table or column.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, SqlglotError

from datasov.errors import InvalidQueryError
from datasov.sql.refusal import refuse_token

MAX_TEXT = 65_536
"""Characters of a text."""
MAX_DEPTH = 16
"""Brackets within brackets."""
MAX_NOT = 32
"""NOTs before a condition, in a whole text."""
MAX_JOINS = 15
"""Joins, as in a question."""

_SUBSET = """
    SELECT FROM LEFT OUTER JOIN USING WHERE GROUP_BY AND OR NOT IN BETWEEN IS NULL TRUE FALSE ALIAS DISTINCT ARRAY
    DATE DATETIME TIMESTAMP TIMESTAMPTZ VAR IDENTIFIER STRING NUMBER L_PAREN R_PAREN L_BRACKET R_BRACKET COMMA DOT
    ORDER_BY DESC LIMIT STAR DASH EQ NEQ LT LTE GT GTE DCOLON SEMICOLON
"""
_WORDS = frozenset(_SUBSET.split())
_INSTEAD = {
    "HAVING": "filter the release's frame afterwards: it is public, and costs nothing more",
    "OFFSET": "every public cell is answered: leave it out, and take a part of the release's frame",
    "WITH": "there are no common table expressions: write one SELECT from a declared table",
    "UNION": "ask two questions, and join their frames",
    "CASE": "give the cuts of a key with WIDTH_BUCKET(x, ARRAY[5, 10]), or filter with WHERE",
    "LIKE": "list the values: column IN ('a', 'b')",
    "OVER": "there are no window functions: group by keys, and compute on the release's frame",
    "FILTER": "put the condition into WHERE, and ask a question for each condition",
    "EXISTS": "there are no subqueries: LEFT JOIN an attribute table USING (resident)",
    "ANY": "list the values: column IN (1, 2)",
    "INTERVAL": "write the time itself: at >= '2027-01-01'",
    "TIME": "hours, days and times without an offset are those of the column's own zone: leave the zone out",
    "RIGHT": "only LEFT JOIN table USING (resident) is in the subset",
    "INNER": "JOIN drops residents without a row: write LEFT JOIN table USING (resident), and filter with IS NOT NULL",
    "ON": "there is no visible resident id: write LEFT JOIN table USING (resident)",
    "PLUS": "there is no arithmetic: compare or add up a column itself, and write numbers out",
    "DPIPE": "there are no text functions: compare a column itself",
    "PLACEHOLDER": "there are no parameters: write the value itself",
    "HINT": "there are no hints: give bounds as ds.sql(..., rows=20, keys=2)",
    "ROLLUP": "ask one question for each set of keys",
    "INSERT": "a question only reads: write a SELECT",
    "NULLSAFE_EQ": "write IS NOT DISTINCT FROM",
    "ISNULL": "write IS NULL",
    "NOTNULL": "write IS NOT NULL",
    "ALL": "leave ALL out",
    "NATIONAL_STRING": "write the text without N before it",
    "UNKNOWN": "quote names with \"double quotes\" and texts with 'single quotes'",
}
_ALIKE = {
    "FETCH": "OFFSET", "EXCEPT": "UNION", "INTERSECT": "UNION", "WHEN": "CASE", "THEN": "CASE",
    "ILIKE": "LIKE", "RLIKE": "LIKE", "GLOB": "LIKE", "SIMILAR_TO": "LIKE", "WINDOW": "OVER", "QUALIFY": "OVER",
    "SOME": "ANY", "FULL": "RIGHT", "CROSS": "RIGHT", "NATURAL": "RIGHT", "LATERAL": "RIGHT", "UNNEST": "RIGHT",
    "SLASH": "PLUS", "MOD": "PLUS", "DIV": "PLUS", "CARET": "PLUS", "AMP": "PLUS", "PIPE": "PLUS", "TILDE": "PLUS",
    "PARAMETER": "PLACEHOLDER", "COLON": "PLACEHOLDER", "CUBE": "ROLLUP", "GROUPING_SETS": "ROLLUP",
    "UPDATE": "INSERT", "DELETE": "INSERT", "CREATE": "INSERT", "DROP": "INSERT", "MERGE": "INSERT",
    "ALTER": "INSERT", "TRUNCATE": "INSERT", "XOR": "PLUS",
}  # fmt: skip
_NO_COMMA = ("R_PAREN", "R_BRACKET", "FROM", "WHERE", "GROUP_BY", "COMMA", "SEMICOLON")


def parse(text: str, names: Collection[str]) -> exp.Select:
    """The tree of one SELECT. `names`: those of tables and columns, which may be keywords elsewhere.

    Raises:
        InvalidQueryError: too long, too deep, not one SELECT, or words outside the subset.
    """
    if not isinstance(text, str):
        raise InvalidQueryError("ds.sql takes a text and a list of schemas")
    if len(text) > MAX_TEXT:
        raise InvalidQueryError(f"an SQL text has at most {MAX_TEXT:,} characters: list fewer values")
    dialect = Dialect.get_or_raise(None)
    try:
        tokens = list(dialect.tokenize(text))
    except SqlglotError:
        raise InvalidQueryError("SQL: a quote or a comment is opened and not closed: close it") from None
    while tokens and tokens[-1].token_type.name == "SEMICOLON":
        tokens.pop()
    _check(tokens, names)
    try:
        (tree,) = dialect.parser().parse(tokens, text)
    except ParseError as fault:
        raise InvalidQueryError(_unread(fault)) from None
    except RecursionError:
        raise InvalidQueryError("SQL: conditions are nested too deeply: use fewer parentheses") from None
    except Exception:  # whatever a parser stumbles over, the text is at fault
        raise InvalidQueryError("SQL: this cannot be read: see docs/sql.md for the forms that can") from None
    if not isinstance(tree, exp.Select):
        raise InvalidQueryError("SQL: write one SELECT ... FROM table ... GROUP BY keys")
    return tree


def _check(tokens: Sequence[Token], names: Collection[str]) -> None:
    if not tokens:
        raise InvalidQueryError("SQL: the text is empty: write SELECT keys, aggregates FROM table GROUP BY keys")
    kinds = [t.token_type.name for t in tokens]
    declared: dict[str, list[str]] = {}
    for name in names:
        declared.setdefault(name.lower(), []).append(name)
    depth = nots = joins = 0
    for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        after = kinds[i + 1] if i + 1 < len(kinds) else "SEMICOLON"
        if kind not in _WORDS:
            alike = declared.get(token.text.lower(), [])
            if token.text not in alike and len(alike) != 1:
                raise refuse_token(token, _instead(kind))
            token.token_type = TokenType.IDENTIFIER
            token.text = token.text if token.text in alike else alike[0]
        if (i == 0) != (kind == "SELECT"):
            raise refuse_token(token, _INSTEAD["EXISTS"] if i else "a question is one SELECT: begin with SELECT")
        if kind == "SEMICOLON":
            raise refuse_token(token, "one statement is one question: call ds.sql for each")
        if token.text == "!":
            raise refuse_token(token, "write NOT")
        if kind == "COMMA" and after in _NO_COMMA:
            raise refuse_token(token, "nothing follows this comma: leave it out")
        if kind == "DASH" and after == "DASH":
            raise refuse_token(token, _INSTEAD["PLUS"])
        depth += (kind in ("L_PAREN", "L_BRACKET")) - (kind in ("R_PAREN", "R_BRACKET"))
        nots += kind == "NOT" and after not in ("IN", "BETWEEN") and kinds[i - 1] != "IS"
        joins += kind == "JOIN"
        if depth > MAX_DEPTH or nots > MAX_NOT:
            raise refuse_token(token, "conditions are nested too deeply: use fewer parentheses and NOTs")
        if joins > MAX_JOINS:
            raise refuse_token(token, f"a question joins at most {MAX_JOINS} tables: leave out those it does not read")
        if kind == "JOIN":
            _check_join(tokens, i)


def _check_join(tokens: Sequence[Token], i: int) -> None:
    """A join is LEFT [OUTER] JOIN name [[AS] alias] USING: the parser then has nothing to guess."""
    if tokens[i - 1].token_type.name not in ("LEFT", "OUTER"):
        raise refuse_token(tokens[i], _INSTEAD["INNER"])
    if not any(t.token_type.name == "USING" for t in tokens[i + 2 : i + 5]):
        raise refuse_token(tokens[i], _INSTEAD["ON"])


def _instead(kind: str) -> str:
    return _INSTEAD.get(_ALIKE.get(kind, kind), "this is not in the subset of docs/sql.md: leave it out")


def _unread(fault: ParseError) -> str:
    """A parser's error without its colours."""
    first = fault.errors[0] if fault.errors else {}
    place = f", line {first['line']}, near {first.get('highlight')!r}" if first.get("line") else ""
    said = str(first.get("description") or "this cannot be read").partition("\n")[0]
    said = "something is missing" if "<" in said else said
    return f"SQL{place}: {said}: check the spelling, or see docs/sql.md"
