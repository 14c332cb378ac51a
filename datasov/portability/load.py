"""Import: an export is verified in whole, against its manifest, before anything of it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datasov.crypto.kdf import sha256
from datasov.errors import DatasovError, InvalidDataError, StoreError, VerificationError
from datasov.model.schema import Schema
from datasov.portability import bundle, texts

_MAX_MANIFEST = 1 << 24
_FOREIGN = "the manifest is not that of a datasov export of version 1: export again, or upgrade datasov"


@dataclass(frozen=True, slots=True)
class Content:
    """What an export holds: tables with codes of their stored columns, by their order there, and the notes."""

    tables: tuple[tuple[Schema, pl.DataFrame], ...]
    notes: dict[str, Any]


def read(
    path: str | Path, unseal: Callable[[bytes], bytes], progress: Callable[[int, int], None] = lambda *_: None
) -> Content:
    """The whole of an export, once every byte of it is the one that was exported.

    Args:
        unseal: opens an age file; called where the path is a file.

    Raises:
        StoreError: there is nothing to read at the path.
        VerificationError: a file differs from its hash, is missing or is not named; or another version wrote it.
        InvalidDataError: rows do not fit their schema, by row and column.
    """
    place = Path(path)
    try:
        if place.is_dir():
            return _read(bundle.open_folder(place), progress)
        if place.is_file():
            return _read(bundle.open_tar(unseal(place.read_bytes())), progress)
    except OSError as fault:
        raise StoreError(f"the export cannot be read: {fault.strerror or fault}") from fault
    raise StoreError("no export is there: give the folder or the age file that was exported")


def _read(files: bundle.Bundle, progress: Callable[[int, int], None] = lambda *_: None) -> Content:
    manifest = _manifest(files)
    held = _files(files, manifest)
    form, tables = manifest["form"], []
    for at, entry in enumerate(manifest["tables"]):
        progress(at, len(manifest["tables"]))
        schema = _schema(entry, held[entry["schema"]])
        try:
            codes = texts.READ[form](schema, held[entry["data"]])
        except InvalidDataError:
            raise
        except (ValueError, RecursionError, pl.exceptions.PolarsError):
            raise VerificationError(f"the rows of table {schema.name!r} cannot be read: export again") from None
        if codes.height != entry["rows"]:
            raise VerificationError(f"table {schema.name!r} has not the rows that the manifest counts: export again")
        tables.append((schema, codes))
    progress(len(tables), len(tables))
    return Content(tuple(tables), {name: bundle.parse(name, held[name]) for name in manifest["notes"]})


def _manifest(files: bundle.Bundle) -> dict[str, Any]:
    """The manifest, once its hash, its version and the shape of what it says are right."""
    if not {bundle.MANIFEST, bundle.CHECK} <= files.sizes.keys():
        raise VerificationError("the export has no manifest: give the folder that holds manifest.json")
    raw = files.read(bundle.MANIFEST, _MAX_MANIFEST)
    if files.read(bundle.CHECK, 1024) != bundle.check_line(raw):
        raise VerificationError("the manifest is not the one that was exported: export again")
    found = bundle.parse(bundle.MANIFEST, raw)
    try:
        shape = (found["format"], found["version"], found["form"] in bundle.FORMS, set(found))
        if shape != (
            bundle.FORMAT, bundle.VERSION, True, {"format", "version", "form", "tables", "notes", "files"},
        ):  # fmt: skip
            raise VerificationError(_FOREIGN)
        expected = list(found["notes"])
        for place, entry in enumerate(found["tables"], 1):
            names = bundle.file_names(place, entry["name"], found["form"])
            if (entry["data"], entry["schema"]) != names or set(entry) != {"name", "rows", "data", "schema", "digest"}:
                raise VerificationError(_FOREIGN)
            expected += names
        if any(set(e) != {"name", "bytes", "sha256"} or type(e["bytes"]) is not int for e in found["files"]):
            raise VerificationError(_FOREIGN)
        if len(set(expected)) != len(expected) or sorted(expected) != sorted(e["name"] for e in found["files"]):
            raise VerificationError(_FOREIGN)
    except (KeyError, TypeError, ValueError):
        raise VerificationError(_FOREIGN) from None
    return dict(found)


def _files(files: bundle.Bundle, manifest: dict[str, Any]) -> dict[str, bytes]:
    """The bytes of every file that the manifest names: all of those there are, and as it says."""
    named = {entry["name"] for entry in manifest["files"]}
    there = files.sizes.keys() - {bundle.MANIFEST, bundle.CHECK}
    if named != there:
        odd = sorted(there - named)
        what = f"{odd[0]!r} is no file of this export: take it away" if odd else "a file of the export is missing"
        raise VerificationError(f"{what}; or export again")
    held = {}
    for entry in manifest["files"]:
        name = entry["name"]
        data = b""
        if files.sizes[name] == entry["bytes"]:
            data = files.read(name, entry["bytes"])
        if len(data) != entry["bytes"] or sha256(data).hex() != entry["sha256"]:
            raise VerificationError(f"{name!r} is not the file that was exported: take a good copy, or export again")
        held[name] = data
    return held


def _schema(entry: dict[str, Any], data: bytes) -> Schema:
    document = bundle.parse(entry["schema"], data)
    try:
        schema = Schema.from_document(document)
    except (DatasovError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise VerificationError(f"the schema of table {entry['name']!r} cannot be read: upgrade datasov") from None
    if schema.name != entry["name"] or schema.digest.hex() != entry["digest"] or schema.document() != document:
        raise VerificationError(f"the schema of table {entry['name']!r} is not the one exported: export again")
    return schema
