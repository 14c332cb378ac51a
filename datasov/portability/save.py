"""Export: every table with its schema, the resident's notes, and a manifest with the hash of every file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from datasov.crypto.kdf import sha256
from datasov.errors import InvalidDataError
from datasov.model.schema import Schema
from datasov.portability import bundle, texts
from datasov.portability.bundle import Form


def save(
    path: str | Path,
    tables: Iterable[tuple[Schema, pl.DataFrame]],
    notes: Mapping[str, object],
    *,
    form: Form,
    seal: Callable[[bytes], bytes] | None = None,
) -> None:
    """Write an export: a folder, or one file where `seal` is given.

    Args:
        tables: schemas with the codes of their stored columns, by name; taken one at a time.
        notes: documents by the names of their files.

    Raises:
        InvalidDataError: no such form. StoreError: the path exists, or cannot be written; nothing is left there.
    """
    if form not in bundle.FORMS:
        raise InvalidDataError(f"an export is one of {', '.join(bundle.FORMS)}")
    files = _files(tables, notes, form)
    if seal is None:
        bundle.write_folder(Path(path), files)
    else:
        bundle.write_file(Path(path), files, seal)


def _files(
    tables: Iterable[tuple[Schema, pl.DataFrame]], notes: Mapping[str, object], form: Form
) -> Iterator[tuple[str, bytes]]:
    listed: list[dict[str, Any]] = []
    hashes: list[dict[str, Any]] = []

    def noted(name: str, data: bytes) -> tuple[str, bytes]:
        hashes.append({"name": name, "bytes": len(data), "sha256": sha256(data).hex()})
        return name, data

    for place, (schema, codes) in enumerate(tables, 1):
        data, shape = bundle.file_names(place, schema.name, form)
        yield noted(data, texts.WRITE[form](schema, codes))
        yield noted(shape, bundle.text(schema.document()))
        listed.append(
            {"name": schema.name, "rows": codes.height, "data": data, "schema": shape, "digest": schema.digest.hex()}
        )
    for name, document in notes.items():
        yield noted(name, bundle.text(document))
    manifest = bundle.text({
        "format": bundle.FORMAT, "version": bundle.VERSION, "form": form, "tables": listed, "notes": sorted(notes),
        "files": hashes,
    })  # fmt: skip
    yield bundle.MANIFEST, manifest
    yield bundle.CHECK, bundle.check_line(manifest)
