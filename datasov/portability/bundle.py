"""An export on disk: a folder of files, or the same files in a tar that age seals. All of it, or nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from datasov.crypto.kdf import random, sha256
from datasov.errors import StoreError, VerificationError

Form: TypeAlias = Literal["parquet", "csv", "json"]
FORMS: tuple[Form, ...] = ("parquet", "csv", "json")
FORMAT, VERSION = "datasov-export", 1
MANIFEST, CHECK = "manifest.json", "manifest.json.sha256"
_ENDING = {"parquet": "parquet", "csv": "csv", "json": "jsonl"}

Files: TypeAlias = Iterable[tuple[str, bytes]]


def file_names(place: int, table: str, form: str) -> tuple[str, str]:
    """Names of the data and the schema of the table at a place (from 1): the number keeps apart Trips and trips."""
    return f"{place:02}-{table}.{_ENDING[form]}", f"{place:02}-{table}.schema.json"


def text(document: object) -> bytes:
    """A document as its file holds it: JSON for people, of one form only."""
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n"


def parse(name: str, data: bytes) -> Any:
    """The document of a file that :func:`text` gave; VerificationError where it is any other."""
    try:
        document = json.loads(data)
        if text(document) == data:
            return document
    except (ValueError, RecursionError):
        pass
    raise VerificationError(f"{name} is not as datasov wrote it: export again")


def check_line(manifest: bytes) -> bytes:
    """What stands in `manifest.json.sha256`: `sha256sum -c` reads it."""
    return f"{sha256(manifest).hex()}  {MANIFEST}\n".encode()


def write_folder(path: Path, files: Files) -> None:
    """A new folder with the files, durable, under its name only once it is whole.

    Raises:
        StoreError: the path exists, or cannot be written.
    """
    temporary = _temporary(path)
    with _storing():
        try:
            os.mkdir(temporary, 0o700)
            for name, data in files:
                _write(temporary / name, data)
            _flush(temporary)
            _refuse_existing(path)
            os.rename(temporary, path)
            _flush(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_file(path: Path, files: Files, seal: Callable[[bytes], bytes]) -> None:
    """One new file: a tar of the files, sealed. Nothing unsealed touches the disk."""
    temporary = _temporary(path)
    with _storing():
        try:
            _write(temporary, seal(_tar(files)))
            os.link(temporary, path)
            _flush(path.parent)
        except FileExistsError:
            _refuse_existing(path)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _temporary(path: Path) -> Path:
    _refuse_existing(path)
    return path.with_name(f".{path.name[:100]}.{random(8).hex()}")


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise StoreError("the path exists already: choose another for the export")


@contextlib.contextmanager
def _storing() -> Any:
    try:
        yield
    except OSError as fault:
        raise StoreError(f"the export was not written: {fault.strerror or fault}") from fault


def _write(path: Path, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _tar(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(f"{FORMAT}/{name}")
            info.size, info.mode = len(data), 0o600
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files to read: their sizes by name, and the bytes of one, at most `size` of them."""

    sizes: Mapping[str, int]
    read: Callable[[str, int], bytes]


def open_folder(path: Path) -> Bundle:
    """The files of a folder. It is not followed out of: links and subfolders are no part of an export."""
    sizes = {}
    for entry in os.scandir(path):
        if not entry.is_file(follow_symlinks=False):
            raise VerificationError("the export holds a link or a folder, which is none of its files: export again")
        sizes[entry.name] = entry.stat(follow_symlinks=False).st_size

    def read(name: str, size: int) -> bytes:
        with open(os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(size)

    return Bundle(sizes, read)


def open_tar(data: bytes) -> Bundle:
    """The files of a tar in memory: what lies in it, so that no member is longer than it. Nothing touches the disk."""
    held: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.partition("/")
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
                file = tar.extractfile(member) if plain else None
                if folder != FORMAT or name in held or file is None:
                    raise VerificationError("the archive holds what is none of an export's files: export again")
                held[name] = file.read()
    except (tarfile.TarError, ValueError, EOFError, RecursionError):
        raise VerificationError("the archive cannot be read: export again") from None
    return Bundle({name: len(content) for name, content in held.items()}, lambda name, size: held[name][:size])
