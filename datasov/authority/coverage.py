"""What a consent covers: its table, the attribute tables joined to it, then the tables that only derivations read.

Of the last kind no row travels. Their names, digests and columns stand in the consent because a derived column tells
of them, and they are exactly those that the covered derived columns read: nothing more and nothing less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from datasov.errors import ConsentError, InvalidQueryError
from datasov.model.consent import Coverage
from datasov.model.derived import Exists, Sources, sources
from datasov.model.schema import Schema


def agreed(
    schema: Schema,
    columns: Iterable[str] | None,
    join: Iterable[Schema] | Mapping[Schema, Iterable[str] | None] = (),
    reads: Iterable[Schema] = (),
    special: Iterable[str] = (),
) -> tuple[tuple[Coverage, ...], tuple[str, ...]]:
    """What :func:`coverage` gives, and the special columns of it, which must be those that `special` names.

    Raises:
        ConsentError: as there; or a covered column of the special class is not named, or another is.
        InvalidQueryError: as there.
    """
    scope = qualified(schema, special)
    covered = _covered(schema, columns, join, reads, scope)
    return tuple(c for _, c in covered), scope_of(covered, scope)


def coverage(
    schema: Schema,
    columns: Iterable[str] | None,
    join: Iterable[Schema] | Mapping[Schema, Iterable[str] | None] = (),
    reads: Iterable[Schema] = (),
) -> tuple[Coverage, ...]:
    """The coverage of a consent for a table, with those joined to it and those that derived columns read.

    Raises:
        ConsentError: nothing is covered of a table, or `reads` are not the tables that the covered columns derive from.
        InvalidQueryError: there is no such column, or a table to read is not the one that a column was declared over.
    """
    return tuple(c for _, c in _covered(schema, columns, join, reads, frozenset()))


def _covered(
    schema: Schema, columns: Iterable[str] | None, join: Iterable[Schema] | Mapping[Schema, Iterable[str] | None],
    reads: Iterable[Schema], scope: frozenset[str],
) -> list[tuple[Schema, Coverage]]:  # fmt: skip
    joined = join.items() if isinstance(join, Mapping) else ((s, None) for s in join)
    carried = [(s, coverage_of(s, names, scope)) for s, names in ((schema, columns), *joined)]
    events = [s.name for s, _ in carried[1:] if s.kind != "attributes"]
    if events:
        raise ConsentError(f"table {events[0]!r} holds events: only attribute tables are joined, others go in reads=")
    given, needed = {s.name: s for s in reads}, unsent(carried)
    missing, idle = sorted(needed.keys() - given.keys()), sorted(given.keys() - needed.keys())
    if missing:
        raise ConsentError(f"a covered column is derived from table {missing[0]!r}: name that in reads=")
    if idle:
        raise ConsentError(f"no covered column is derived from table {idle[0]!r}: leave it out of reads=")
    for table, covered in carried:
        for name in covered.columns:
            column = table.column(name)
            if isinstance(column, Exists) and column.table in given:
                column.over(given[column.table])
    return [*carried, *((s, coverage_of(s, needed[s.name][1])) for s in given.values())]


def qualified(schema: Schema, special: Iterable[str]) -> frozenset[str]:
    """Names of columns as `table.column`; one without a table is of the first table."""
    names = [special] if isinstance(special, str) else list(special)
    if isinstance(special, str) or not all(isinstance(n, str) for n in names):
        raise ConsentError("special= is a list of columns: write it like special=['diagnosis']")
    return frozenset(n if "." in n else f"{schema.name}.{n}" for n in names)


def special_of(tables: Iterable[tuple[Schema, Coverage]]) -> frozenset[str]:
    """The covered columns of the special legal class (要配慮個人情報), as `table.column`."""
    return frozenset(
        f"{c.table}.{name}" for schema, c in tables for name in c.columns if schema.column(name).legal == "special"
    )


def scope_of(tables: Iterable[tuple[Schema, Coverage]], special: frozenset[str]) -> tuple[str, ...]:
    """The special columns of a coverage, ascending, where they are exactly those that were named for it.

    Raises:
        ConsentError: a covered column of the special class was not named, or another was.
    """
    found = special_of(tables)
    missing, idle = sorted(found - special), sorted(special - found)
    if missing:
        raise ConsentError(
            f"column {missing[0]!r} is of the special class (要配慮個人情報), which a consent covers only where "
            f"it says so: name all such columns, special={sorted(found)}, or leave them out"
        )
    if idle:
        raise ConsentError(f"{idle[0]!r} is no covered column of the special class: leave it out of special=")
    return tuple(sorted(found))


def check_special(tables: Sequence[tuple[Schema, Coverage]], special: Iterable[str]) -> None:
    """Raise ConsentError unless a consent names the special columns of the tables that came, and no others of them.

    Of tables that are only read no schema comes: what a consent names of these is not compared.
    """
    came = {c.table for _, c in tables}
    if special_of(tables) != {name for name in special if name.partition(".")[0] in came}:
        raise ConsentError(
            "the consent does not name exactly the covered columns of the special class (要配慮個人情報): "
            "grant it anew, with special=[...]"
        )


def check_class(tables: Iterable[tuple[Schema, Coverage]], present: Mapping[str, Schema]) -> None:
    """Raise ConsentError where a covered column has become one of the special class since the schema that is named.

    Args:
        present: the vault's newest schemas, by name. A column that is one of the class stays one.
    """
    for schema, covered in tables:
        now = dict(present[covered.table].items) if covered.table in present else {}
        for name in covered.columns:
            if name in now and now[name].legal == "special" != schema.column(name).legal:
                raise ConsentError(
                    f"column {name!r} of table {covered.table!r} is of the special class (要配慮個人情報) by now: "
                    "grant anew under the newest schema, with special=[...]"
                )


def coverage_of(schema: Schema, columns: Iterable[str] | None, special: frozenset[str] = frozenset()) -> Coverage:
    """The named columns of a table, in its order; where None, those of the ordinary legal class that are put.

    Args:
        special: further columns, as `table.column`; those of other tables are left aside.

    Raises:
        ConsentError: no column is left. InvalidQueryError: there is no such column.
    """
    wanted = {n for n, c in schema.stored if c.legal == "ordinary"} if columns is None else set(columns)
    wanted |= {name.partition(".")[2] for name in special if name.partition(".")[0] == schema.name}
    for name in sorted(wanted):
        schema.column(name)
    names = tuple(n for n, _ in schema.items if n in wanted)
    if not names:
        raise ConsentError(f"the consent covers no column of table {schema.name!r}: name those that it should")
    return Coverage(schema.name, schema.digest, names)


def unsent(carried: Sequence[tuple[Schema, Coverage]]) -> Sources:
    """The tables that covered derived columns read and that are not carried themselves, with what is read of each.

    Raises:
        ConsentError: a table is read under two schemas, or is carried without a column that is read.
    """
    try:
        needed = sources(schema.column(name) for schema, covered in carried for name in covered.columns)
    except InvalidQueryError as why:
        raise ConsentError(str(why)) from None
    for _, covered in carried:
        digest, read = needed.pop(covered.table, (covered.schema_digest, frozenset[str]()))
        if digest != covered.schema_digest or not read <= set(covered.columns):
            raise ConsentError(f"a covered column is derived from columns of {covered.table!r}: cover these as well")
    return needed


def check_unsent(carried: Sequence[tuple[Schema, Coverage]], others: Sequence[Coverage]) -> None:
    """Raise ConsentError unless `others` are exactly the tables and columns that the carried ones derive from."""
    if unsent(carried) != {c.table: (c.schema_digest, frozenset(c.columns)) for c in others}:
        raise ConsentError(
            "the consent's tables are not those contributed and those that their derived columns read: grant it anew"
        )


def to_send(covered: Sequence[Coverage], tables: Mapping[str, Schema]) -> tuple[Coverage, ...]:
    """The attribute tables whose rows travel beside those of the first table: all that no derived column reads.

    Args:
        tables: those of the vault, by name.
    """
    held = [c for c in covered if c.table in tables and tables[c.table].digest == c.schema_digest]
    read = sources(tables[c.table].column(name) for c in held for name in c.columns)
    return tuple(c for c in covered[1:] if c.table not in read)
