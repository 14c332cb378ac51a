"""Charters and programmes in plain words, for those who sign them: everything that they say, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from datasov.model.charter import DAY, Charter, Group, Member, told
from datasov.model.document import canonical
from datasov.model.programme import Programme
from datasov.model.schema import Key
from datasov.model.template import Allowed, Template


def charter(found: Charter) -> list[str]:
    """The lines of a charter."""
    lines = [
        f"Charter, version {found.version}, of {found.city}",
        f"in force from {told(found.issued)} until {told(found.expires)}; then it allows nothing but its successor",
    ]
    for name, group in found.groups:
        lines += [*_group(name, group), *_members(group.members)]
    lines += ["The city is run by:", *_members(found.operators)]
    lines.append(f"An ordinary programme starts {found.notice_days} days after its approval at the earliest.")
    lines.append(
        f"An emergency programme starts at once and ends within {found.emergency_days} days; none follows for as long."
        if found.emergency_days else "There are no emergency programmes."
    )  # fmt: skip
    lines += [
        f"Left open, without a programme: questions for {purpose!r}, each at {loss} at most"
        for purpose, loss in found.open
    ] or ["Nothing is left open: every question needs a programme."]
    lines += [f"This ends the programme {each.hex()}." for each in found.withdrawn]
    return [_shown(line) for line in lines]


def _group(name: str, group: Group) -> list[str]:
    urgent = f"; {group.emergency} in an emergency" if group.emergency else ""
    return [f"The {name}: {group.threshold} of these {len(group.members)} must sign{urgent}"]


def _members(members: Iterable[Member]) -> list[str]:
    return [f"    {m.name}  {m.key.hex()}" for m in members]


def programme(found: Programme) -> list[str]:
    """The lines of a programme."""
    kind = "EMERGENCY programme" if found.emergency else "Programme"
    lines = [
        f"{kind} {found.name!r}, version {found.version}, of {found.city}, under charter {found.charter}",
        f"for the purpose {found.purpose!r}",
        f"from {told(found.not_before)} until {told(found.expires)} ({(found.expires - found.not_before) // DAY} days)",
        "It may read, in whatever place of a question:",
        *(
            f"    {t.table}: {', '.join(t.columns) or 'no column'}  (schema {t.schema_digest.hex()})"
            for t in found.tables
        ),
    ]
    if found.question is not None:
        lines += ["It asks this question and no other:", f"    {canonical(found.question).decode()}"]
    if found.template is not None:
        lines += template(found.template)
    limits = [f"{found.largest} for one question", f"{found.total} in all"]
    if found.period is not None:
        limits.append(f"{found.period} in any {found.period_days} days")
    lines += [
        "It loses at most " + ", ".join(limits) + ", and of no resident more than they consented to.",
        f"Noise: {'; '.join(found.mechanisms)}. Trust: {', '.join(found.trust)}.",
        f"Cells with fewer than {found.cohort} residents, as counted with noise, are withheld."
        if found.cohort else "No cell is withheld for having few residents.",
        f"Processed in {found.processing}. Answers are kept for {found.retention_days} days.",
        "It draws on those alone who consented to this purpose, and a consent can be revoked at any time.",
    ]  # fmt: skip
    return [_shown(line) for line in lines]


def _shown(line: str) -> str:
    """A line of a terminal: who drafts a document could otherwise hide parts of it, or add lines, by what it draws."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)


def template(found: Template) -> list[str]:
    """The lines of a template."""
    lines = [
        "It asks questions made of these parts and no others:",
        f"    by: {'; '.join(_key(k) for k in found.keys) or 'nothing'}",
        f"    for: {'; '.join(_allowed(a) for a in found.aggregates) or 'nothing'}",
        f"    where: conditions on {', '.join(found.where) or 'nothing'}",
        f"    derived columns: {', '.join(found.derived) or 'none'}",
        f"    of one resident at most {found.rows} rows in a key, and {found.bound_keys} keys",
    ]
    lines += [f"    the highest {found.top} keys at most"] if found.top else []
    lines += [f"    as a series of at most {found.steps} steps"] if found.steps else []
    return lines


def _key(key: Key) -> str:
    return {"value": key.column, "bin": f"{key.column} in bins at {', '.join(key.cuts)}"}.get(
        key.kind, f"{key.kind} of {key.column}"
    )


def _allowed(allowed: Allowed) -> str:
    of = f" of {allowed.column}" if allowed.column else ""
    return f"{allowed.kind}{of}" + (f" per {' '.join(allowed.per)}" if allowed.per else "")


def standing(found: Charter, by: Collection[bytes], *, emergency: bool = False) -> list[str]:
    """Who of a charter's groups signed, and how many are missing."""
    lines = []
    for name, group in found.groups:
        needed = group.emergency if emergency else group.threshold
        signed = [m.name for m in group.members if m.key in by]
        short = max(0, needed - len(signed))
        lines.append(
            f"{name}: {len(signed)} of the {needed} needed signed ({', '.join(signed) or 'nobody'})"
            + (f"; {short} MISSING of {', '.join(m.name for m in group.members if m.key not in by)}" if short else "")
        )
    known = found.council.keys | found.assembly.keys
    strangers = [key for key in by if key not in known]
    lines += [f"{len(strangers)} signatures are of nobody in these groups, and count for nothing"] if strangers else []
    return lines
