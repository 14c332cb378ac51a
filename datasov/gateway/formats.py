"""Answers as JSON, CSV, Parquet and an Arrow stream, and which of them a client asks for (RFC 9110, section 12)."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from datasov.gateway.problems import ProblemError
from datasov.model.privacy import ATTO, NANO, Loss
from datasov.model.release import Release
from datasov.model.series import SeriesRelease

JSON, CSV, PARQUET, ARROW = (
    "application/json", "text/csv", "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream",
)  # fmt: skip
MEDIA = (JSON, CSV, PARQUET, ARROW)


def negotiated(accept: str | None, offered: Sequence[str]) -> str:
    """The media type to answer with: the best under the header Accept, the first offered where it does not say.

    Raises:
        ProblemError: 406, none of those offered is acceptable.
    """
    if not accept:
        return offered[0]
    wanted: list[tuple[str, float]] = []
    for part in accept.split(",")[:32]:
        name, *parameters = (p.strip().lower() for p in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            q = float(weight)
        except ValueError:
            q = 0.0
        wanted.append((name, q if 0 <= q <= 1 else 0.0))
    best, chosen = 0.0, ""
    for media in offered:
        ranges = (media, media.partition("/")[0] + "/*", "*/*")
        found = next((q for r in ranges for name, q in wanted if name == r), 0.0)
        if found > best:
            best, chosen = found, media
    if not chosen:
        raise ProblemError("not-acceptable", f"the answer is given as {', '.join(offered)}: accept one of them")
    return chosen


def loss_shown(loss: Loss) -> dict[str, Any]:
    """A loss with exact decimals."""
    name = "rho" if loss.measure == "zcdp" else "epsilon"
    return {"measure": loss.measure, name: _decimal(loss.nano, NANO), "delta": _decimal(loss.delta, ATTO)}


def _decimal(units: int, one: int) -> str:
    whole, part = divmod(units, one)
    return f"{whole}.{part:0{len(str(one)) - 1}d}".rstrip("0").rstrip(".")


def instant(seconds: int) -> str:
    """RFC 3339, in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def about(answer: Release | SeriesRelease, confidence: float) -> dict[str, Any]:
    """All that is told of an answer beside its numbers."""
    series = isinstance(answer, SeriesRelease)
    query = answer.series.query if isinstance(answer, SeriesRelease) else answer.query
    question = answer.series.document() if isinstance(answer, SeriesRelease) else query.document()
    shown: dict[str, Any] = {
        "id": answer.identifier.hex(), "kind": "series" if series else "release", "city": answer.city,
        "table": query.schema.name, "purpose": answer.purpose, "programme": answer.programme,
        "loss": loss_shown(answer.loss), "trust": answer.trust.name, "mechanism": answer.mechanism,
        "epoch": 0 if isinstance(answer, SeriesRelease) else answer.epoch, "time": instant(answer.time),
        "confidence": confidence, "question": question, "digest": answer.digest.hex(),
    }  # fmt: skip
    if isinstance(answer, SeriesRelease):
        return shown | {"steps": answer.series.steps, "released_steps": len(answer.outputs)}
    return shown | {"cohort": answer.cohort, "energy": answer.energy.document()}


def render(
    answer: Release | SeriesRelease, media: str, confidence: float, part: str = "rows", last: int | None = None
) -> bytes:
    """An answer in one of :data:`MEDIA`.

    Args:
        part: of what is not JSON: "rows", or "overall" for what was asked about the whole question.
        last: of a series, as in :meth:`SeriesRelease.frame`.

    Raises:
        InvalidQueryError: a confidence or a number of steps that is none.
    """
    if isinstance(answer, SeriesRelease):
        rows, overall = answer.frame(confidence, last=last), pl.DataFrame()
    else:
        rows, overall = answer.frame(confidence), answer.overall(confidence)
    if media == JSON:
        shown = about(answer, confidence) | {
            "columns": rows.columns, "rows": plain(rows), "overall": plain(overall) if overall.width else [],
        }  # fmt: skip
        return json.dumps(shown, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    frame = overall if part == "overall" else rows
    if media == CSV:
        return frame.write_csv().encode()
    out = io.BytesIO()
    if media == PARQUET:
        text = json.dumps(about(answer, confidence), ensure_ascii=False)
        frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String)).write_parquet(
            out, metadata={"datasov": text}
        )
    else:
        frame.write_ipc_stream(out, compat_level=pl.CompatLevel.oldest())
    return out.getvalue()


def plain(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON holds them: decimals as texts, times as ISO 8601, what is no finite number as null."""
    return [{name: _plain(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else value


def headers(answer: Mapping[str, Any]) -> dict[str, str]:
    """What CSV and Arrow streams have no place for, from :func:`about`."""
    loss = answer["loss"]
    name = "rho" if "rho" in loss else "epsilon"
    return {
        "datasov-release": answer["id"], "datasov-digest": answer["digest"],
        "datasov-confidence": str(answer["confidence"]), "datasov-loss": f"{name}={loss[name]}; delta={loss['delta']}",
        "link": f'</v1/releases/{answer["id"]}>; rel="describedby"; type="application/json"',
    }  # fmt: skip
