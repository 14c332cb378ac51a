"""The demo from beginning to end."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from datasov.city import City
from datasov.demo import exact, show
from datasov.demo.answers import Answer, cells
from datasov.demo.checks import check_receipts, refusals
from datasov.demo.memory import peak_bytes
from datasov.demo.outcome import Outcome
from datasov.demo.people import CONSENTS, Enrolled, enrol_all, grant_again
from datasov.demo.questions import BUDGET, PURPOSE, Question, Tables, questions, tables
from datasov.demo.source import Source, load
from datasov.errors import IndexTakenError, InternalError, StoreError
from datasov.kernel.plan import compile
from datasov.model.consent import Consent
from datasov.model.plan import Request


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says: see `datasov demo --help`."""

    households: int | None = None
    json: bool = False
    report: Path | None = None
    image: Path | None = None
    keep: Path | None = None


def run(options: Options) -> Outcome:
    """Run the demo, print it, and write what was asked for.

    Raises:
        StoreError: a file exists or cannot be written. The releases are stored in the city's folder, which is a
            temporary one unless `keep` names another.
    """
    console = show.Show(quiet_stdout=options.json)
    started = time.perf_counter()
    with _folder(options.keep) as folder, console.progress() as progress:
        progress.step("reading the purchases")
        source = load(options.households)
        console.source(source)
        schemas = tables(source.departments)
        with City.open(folder / "lakeside.city", budget=BUDGET, purposes=[PURPOSE], processing="US") as city:
            enrolled = _enrol(folder, source, schemas, city, progress)
            enrol_seconds = time.perf_counter() - started
            console.enrolled(len(source.households), enrol_seconds)
            if options.keep:
                _keep_keys(folder, enrolled)
            answers = []
            for question in questions(schemas):
                progress.step(f"asking: {question.title.partition(':')[0].lower()}")
                answers.append(_ask(city, question, source))
                console.answer(answers[-1], BUDGET)
            first = answers[0]
            again = city.release(
                first.question.query, loss=first.question.loss, purpose=PURPOSE, as_of=first.release.epoch
            )
            repeated = again.digest == first.release.digest and city.remaining == answers[-1].remaining
            progress.step("checking receipts")
            checks = check_receipts(folder, enrolled[0], city)
            refused = refusals(city, first.question)
            outcome = Outcome(
                households=len(source.households), purchases=source.purchases.height,
                with_profile=source.profiles.height, clipped=source.clipped, budget=BUDGET, remaining=city.remaining,
                answers=tuple(answers), checks=checks, refusals=refused, repeated=repeated,
                seconds=time.perf_counter() - started, enrol_seconds=enrol_seconds,
                workers_peak_bytes=_workers_peak(enrolled), own_peak_bytes=peak_bytes(),
            )  # fmt: skip
        progress.step("writing the report")
        outcome = _write(options, replace(outcome, seconds=time.perf_counter() - started))
    console.closing(outcome, options.report, options.image)
    if options.json:
        print(outcome.json(), flush=True)
    return outcome


def _write(options: Options, outcome: Outcome) -> Outcome:
    """The report and the picture; the outcome with the time and memory that they took, too."""
    started = time.perf_counter()
    if options.report or options.image:
        from datasov.demo import plots, report

        if options.image:
            _save(options.image, plots.picture(outcome.answers))
        if options.report:
            _save(options.report, report.html(outcome))
    return replace(outcome, seconds=outcome.seconds + time.perf_counter() - started, own_peak_bytes=peak_bytes())


def _enrol(folder: Path, source: Source, schemas: Tables, city: City, progress: show.Progress) -> list[Enrolled]:
    """Vaults, consents and contributions, admitted as they come. What is kept of each household is its device key."""
    kept: list[Enrolled] = []

    def sending() -> Iterator[tuple[Consent, bytes]]:
        for enrolled in enrol_all(folder, source, schemas, city.id):
            kept.append(replace(enrolled, sent=()))
            progress.advance(len(kept), len(source.households))
            yield from enrolled.sent

    for at, refused in enumerate(city.admit_many(sending())):
        household, number = kept[at // CONSENTS], at % CONSENTS
        while isinstance(refused, IndexTakenError):
            (refused,) = city.admit_many([grant_again(folder, household, number, schemas, city.id)])
        if refused is not None:
            raise InternalError("the city refused a household of the demo") from refused
    return kept


def _workers_peak(enrolled: list[Enrolled]) -> int:
    peaks: dict[int, int] = {}
    for process, peak in (e.worker for e in enrolled):
        peaks[process] = max(peak, peaks.get(process, 0))
    return sum(peak for process, peak in peaks.items() if process != os.getpid())


def _ask(city: City, question: Question, source: Source) -> Answer:
    started = time.perf_counter()
    release = city.release(question.query, loss=question.loss, purpose=PURPOSE)
    seconds = time.perf_counter() - started
    plan = compile(question.query)
    request = Request(plan, question.loss, PURPOSE, city.trust, release.epoch)
    shards = city._pool.snapshot(request).shards
    found = cells(
        question,
        release,
        exact.bounded(question, plan, shards, source.departments),
        exact.unbounded(question, source),
    )
    return Answer(question, release, found, city.remaining, seconds)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="datasov-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True)
    except OSError as fault:
        raise StoreError("the folder to keep exists or cannot be made: name a new one") from fault
    yield keep


def _keep_keys(folder: Path, enrolled: list[Enrolled]) -> None:
    """Device keys beside the vaults: right for a demo's folder, and nowhere else."""
    path = folder / "device-keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({str(e.id): e.key.hex() for e in enrolled}))


def _save(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise StoreError(f"{path} cannot be written: name another place") from fault
