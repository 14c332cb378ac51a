"""Rows as bytes: many streams read as few, whoever wrote them, and nothing else taken for one."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from datasov.errors import DecryptionError
from datasov.vault import Vault, codec
from tests.vaults import KEY, TRIPS, meter, trips


def longer(codes: pl.DataFrame) -> bytes:
    """A stream as another version of Polars might write it: more bytes in the schema's message."""
    data = codec.to_ipc(codes)
    size = int.from_bytes(data[4:8], "little")
    return data[:4] + (size + 8).to_bytes(4, "little") + data[8 : 8 + size] + bytes(8) + data[8 + size :]


def test_runs_of_one_schema_are_read_together_and_in_order() -> None:
    frames = [trips(1), trips(2, None), trips(3), trips(4, 5, 6), trips(7)]
    streams = [codec.to_ipc(f) if i not in (2, 3) else longer(f) for i, f in enumerate(frames)]
    found = list(codec.read_streams(streams, None))
    assert [count for count, _ in found] == [2, 2, 1]
    assert [frame.rows() for _, frame in found] == [
        trips(1, 2, None).rows(), trips(3, 4, 5, 6).rows(), trips(7).rows()
    ]  # fmt: skip
    assert [frame.rows() for _, frame in codec.read_streams(streams[:2], ["km"])] == [[(1,), (2,), (None,)]]
    assert list(codec.read_streams([], None)) == []


def test_streams_of_tables_with_other_columns_are_read_apart() -> None:
    found = list(codec.read_streams([codec.to_ipc(trips(1)), codec.to_ipc(meter(2)), codec.to_ipc(trips(3))], None))
    assert [frame.rows() for _, frame in found] == [trips(1).rows(), meter(2).rows(), trips(3).rows()]


@pytest.mark.parametrize("cut", [0, 3, 9, 200, 263, 264, 400, -8, -1])
def test_what_is_no_stream_is_refused(cut: int) -> None:
    whole = codec.to_ipc(trips(1))
    for streams in ([whole[:cut]], [whole, whole[:cut]], [whole, whole[:cut], whole]):
        with pytest.raises(DecryptionError):
            list(codec.read_streams(streams, None))


def test_frames_in_chunks_and_rows_of_several_writers_come_back_from_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunked = pl.concat([trips(1), trips(2, 3)], rechunk=False)
    assert chunked.n_chunks() == 2
    other = longer(trips(4))
    with Vault.create(tmp_path / "v", device_key=KEY) as vault:
        vault.put([(TRIPS, chunked)])
        with monkeypatch.context() as patch:
            patch.setattr(codec, "to_ipc", lambda codes: other)
            vault.put([(TRIPS, trips(4))])
        vault.put([(TRIPS, chunked)])
        expected = trips(1, 2, 3, 4, 1, 2, 3).rows()
        assert vault.scan("trips").rows() == expected
        vault.compact()
        assert vault.scan("trips").rows() == expected
