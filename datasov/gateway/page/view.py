"""What the city's page shows, as values for its templates. Public input alone: answers, log, declarations, budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from datasov.authority.approval import fingerprint
from datasov.city import City
from datasov.gateway import governance
from datasov.gateway.page import chart, telling
from datasov.gateway.page.words import Language, words
from datasov.gateway.receipts import public_leaves
from datasov.gateway.shared import Shared
from datasov.model.privacy import Loss, Trust
from datasov.model.release import Release
from datasov.tlog.leaves import ReleaseLeaf, decode_leaf
from datasov.tlog.note import split_note

_PICTURED, _LISTED, _ROWS = 6, 200, 40
_DELTA = 1e-6
_DAY, _MINUTE = 86_400, 60


def city(shared: Shared, language: Language) -> dict[str, Any]:
    """The city's page."""
    here, w = shared.city, words(language)
    now = int(shared.clock())
    releases = here.releases()[::-1]
    programmes = [_programme(here, p, w, language) for p in governance.programmes(here, now)]
    names = {p["identity"]: p for p in programmes}
    answers = [_answer(here, r, names, w, language) for r in releases[:_PICTURED]]
    for each, release in zip(answers, releases, strict=False):
        each["pictures"] = telling.pictures(release, w, language)[:1]
    budget = _budget(here, now, language)
    return {
        "name": here.id.name, "city_id": str(here.id), "answers": answers,
        "older": [_answer(here, r, names, w, language) for r in releases[_PICTURED:][:_LISTED]],
        "collections": _collections(shared, w, language), "devices": here.trust.name != "central",
        "trusted": _trusted(here, here.trust, w),
        "count": len(releases), "budget": budget, "programmes": sorted(programmes, key=_order),
        "running": sum(p["state"] == "running" for p in programmes), "charter": _charter(here, language),
        "log": _log(here), "tables": [_table(s.name, language) for s in shared.tables.values()],
        "purposes": [here.purpose(p).label(language) for p in here.purposes], "place": here.processing,
        "erase_days": here.periods.erase_within // _DAY, "tick_minutes": max(1, here.periods.tick // _MINUTE),
    }  # fmt: skip


def answer(shared: Shared, identifier: str, language: Language) -> dict[str, Any] | None:
    """The page of one answer; None where there is none."""
    here, w = shared.city, words(language)
    release = next((r for r in here.releases() if r.identifier.hex() == identifier), None)
    if release is None:
        return None
    programmes = [_programme(here, p, w, language) for p in governance.programmes(here, int(shared.clock()))]
    found = _answer(here, release, {p["identity"]: p for p in programmes}, w, language)
    return {
        "name": here.id.name, "answer": {**found, "pictures": telling.pictures(release, w, language)},
        "facts": [
            (w["bounds"], _limits(release, w)), (w["mechanism"], telling.mechanism(release.mechanism, language)),
            *((w["trust"], told) for told in _trusted(here, release.trust, w)),
            (w["epoch"], str(release.epoch)), (w["identifier"], release.identifier.hex()),
            (w["digest"], release.digest.hex()),
        ],
    }  # fmt: skip


def _limits(release: Release, w: Mapping[str, str]) -> str:
    rows, keys = release.query.rows, release.query.keys_bound
    if rows is None:
        return "–"
    return w["rows_limit"].format(rows=rows, keys=keys) if keys else w["rows_only"].format(rows=rows)


def _trusted(here: City, trust: Trust, w: Mapping[str, str]) -> list[str]:
    """Who must be trusted, in words, under each model of a trust."""
    known = here.trust if here.trust.text == trust.text else trust
    named = ", ".join(party.name for party in known.aggregators) or w["trust_two"]
    return [w[f"trust_{each.name}"].format(names=named) for each in known.each]


def _collections(shared: Shared, w: Mapping[str, str], language: Language) -> list[dict[str, Any]]:
    here = shared.city
    return [
        {
            "id": task.id.hex(), "title": telling.asked(task.query, w, language),
            "table": telling.table_label(task.query.schema.name, language),
            "purpose": here.purpose(task.purpose).label(language), "loss": telling.loss(task.loss),
            "until": telling.moment(task.until, telling.zone(here.processing), language),
        }
        for task in (found.task for found in list(shared.collections.open())[::-1][:_LISTED])
    ]  # fmt: skip


def _answer(
    here: City, release: Release, programmes: Mapping[str, Mapping[str, Any]], w: Mapping[str, str], language: Language
) -> dict[str, Any]:
    approved = programmes.get(release.programme)
    under = approved["title"] if approved else w["left_open" if here.charter is not None else "no_charter"]
    return {
        "id": release.identifier.hex(), "many": len(release.query.aggregates) > 1,
        "title": telling.asked(release.query, w, language),
        "table": telling.table_label(release.query.schema.name, language),
        "purpose": here.purpose(release.purpose).label(language),
        "day": telling.day(release.time, telling.zone(here.processing), language), "time": release.time,
        "loss": telling.loss(release.loss), "under": under, "programme": release.programme if approved else "",
    }  # fmt: skip


def _order(programme: Mapping[str, Any]) -> tuple[int, int]:
    return ["running", "coming", "over"].index(programme["state"]), -programme["starts"]


def _programme(here: City, told: Mapping[str, Any], w: Mapping[str, str], language: Language) -> dict[str, Any]:
    document = told["document"]
    where = telling.zone(here.processing)
    total, left = Loss.from_document(document["total"]), Loss.from_document(told["remaining"])
    under = [leaf.loss for leaf in _released(here) if leaf.programme.hex() == told["identity"]]
    spent = sum(telling.amount(_in(loss, total.measure)) for loss in under)
    start, end = (telling.day(told[n], where, language) for n in ("starts", "ends"))
    return {
        **{n: told[n] for n in ("identity", "fingerprint", "state", "starts")},
        "title": f"{document['name']} ({w['version'].format(n=document['version'])})",
        "emergency": document["emergency"], "purpose": here.purpose(document["purpose"]).label(language),
        "period": w["from_to"].format(start=start, end=end),
        "reads": [
            (telling.table_label(t["name"], language),
             [telling.column_label(t["name"], c, language) for c in t["columns"]])
            for t in document["tables"]
        ],
        "largest": telling.loss(Loss.from_document(document["largest"])), "total": telling.loss(total),
        "left": telling.loss(left), "share": chart.share(spent / telling.amount(total)),
        "cohort": document["cohort"], "processing": document["processing"],
        "council": [s["name"] for s in told["signers"] if s["group"] == "council"],
        "assembly": [s["name"] for s in told["signers"] if s["group"] == "assembly"],
    }  # fmt: skip


def _charter(here: City, language: Language) -> dict[str, Any] | None:
    charter = here.charter
    if charter is None:
        return None
    leaf = [n for n in here.notices() if n.subject == "charter"][-1]
    where = telling.zone(here.processing)
    return {
        "identity": leaf.identity.hex(), "fingerprint": fingerprint(leaf.identity), "version": charter.version,
        "council": charter.council.threshold, "council_of": len(charter.council.members),
        "assembly": charter.assembly.threshold, "assembly_of": len(charter.assembly.members),
        "days": charter.notice_days, "until": telling.day(charter.expires, where, language),
        "open": [(here.purpose(p).label(language), telling.loss(loss)) for p, loss in charter.open],
    }  # fmt: skip


def _budget(here: City, now: int, language: Language) -> dict[str, Any]:
    whole, left, where = here.budget, here.remaining, telling.zone(here.processing)
    added, rows, points = 0.0, list[tuple[str, str]](), [(float(here.periods.founded), 0.0)]
    for leaf in _released(here):
        added += telling.amount(_in(leaf.loss, whole.measure))
        points.append((float(max(leaf.time, points[-1][0])), added))
        rows.append((telling.day(leaf.time, where, language), f"{added:.9f}".rstrip("0").rstrip(".")))
    spent = telling.amount(whole) - telling.amount(left)
    points.append((float(max(now, points[-1][0])), added))
    return {
        "whole": telling.loss(whole), "left": telling.loss(left), "spent": telling.loss(whole - left),
        "percent": f"{100 * telling.amount(left) / telling.amount(whole):.1f}".removesuffix(".0"),
        "share": chart.share(spent / telling.amount(whole)), "allowance": telling.loss(here.allowance),
        "chart": chart.steps(points, telling.amount(whole)), "rows": rows[-_ROWS:],
        "begins": telling.day(here.periods.founded, where, language), "means": _means(whole),
        "wasted": _wasted(spent, added, whole.measure),
    }  # fmt: skip


def _released(here: City) -> list[ReleaseLeaf]:
    return [leaf for leaf in map(decode_leaf, public_leaves(here)) if isinstance(leaf, ReleaseLeaf)]


def _in(loss: Loss, measure: str) -> Loss:
    return loss if loss.measure == measure else loss.concentrated


def _wasted(spent: float, added: float, measure: str) -> str:
    rest = round((spent - added) * 1e9)
    return telling.loss(Loss(rest, "pure" if measure == "pure" else "zcdp")) if rest > 0 else ""


def _means(whole: Loss) -> tuple[str, str] | None:
    """What the budget means for one person: the factor e^epsilon and epsilon; None where that says nothing."""
    if whole.delta / 1e18 >= _DELTA:
        return None
    epsilon = whole.epsilon(_DELTA)
    factor = math.exp(epsilon) if epsilon < 20 else math.inf
    if not math.isfinite(factor):
        return None
    return telling.number(math.ceil(factor * 10) / 10 if factor < 100 else math.ceil(factor)), f"{epsilon:.2f}"


def _log(here: City) -> dict[str, Any]:
    found = here.checkpoint()
    cosigned = here.log.cosigned()
    names: Sequence[str] = []
    if cosigned is not None:
        names = [name for name, _ in split_note(cosigned.note)[1] if name != found.origin]
    return {
        "origin": found.origin, "size": found.size, "root": found.root.hex(), "note": found.note.decode(),
        "cosigned": names, "cosigned_size": cosigned.size if cosigned is not None else 0,
    }  # fmt: skip


def _table(name: str, language: Language) -> str:
    label = telling.table_label(name, language)
    return label if label == name else f"{label} ({name})"
