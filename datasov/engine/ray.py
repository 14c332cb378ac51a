"""Tasks on a Ray cluster: the same integers as threads of one process, from many machines.

Two things move: shards from this process to the workers, and small results back. A part's vectors stay in the object
store of the worker that made them, and this process sees their prices alone. A task whose worker or machine died runs
again: `contribute`, `shares` and `total` are pure functions, and a map gives one result an item: nobody counts twice.

The cluster is inside the operator's trust: shards and parts lie in its memory, and travel between its machines, in the
clear. Use Ray's TLS between machines (`RAY_USE_TLS`), let nobody else reach its ports, and turn off the spilling of
objects to disk (system configuration `automatic_object_spilling_enabled`) where its disks are not encrypted. No result
is logged, and a fault in a task comes back without the text, the values or the traceback of what failed there.
"""

from __future__ import annotations

import functools
import io
import pickle
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
import polars as pl

from datasov.crypto.kdf import sha256
from datasov.errors import DatasovError, InternalError, PeerError
from datasov.model.shard import Part, Shard

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()


def cluster(
    address: str = "auto", *, in_flight: int | None = None, retries: int = 3, hold: int = 1 << 30
) -> Callable[[Callable[[Item], Result], Iterable[Item]], Iterable[Result]]:
    """An engine of one-processor tasks on a Ray cluster, of which this process's machine is a node.

    Ray is used as the process has initialised it, or else joined at `address`; it is neither started nor stopped.
    Every machine needs the same datasov, Polars and NumPy, which each task checks. Start the machines' Ray with
    `POLARS_MAX_THREADS=1`: tasks share a machine already.

    Args:
        address: of a running cluster, as `ray.init` takes it.
        in_flight: tasks that are handed out and not yet answered, at most; twice the cluster's processors where None.
        retries: how often a task is tried again whose worker or machine died.
        hold: bytes of shards that stay in the cluster's memory from one question to the next, as long as the pool
            itself holds them. The others are sent for each question.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        PeerError: no cluster there; and from a map, a cluster that lost a task too often, or is out of memory.
        InternalError: from a map, anything but a DatasovError that `function` raised.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the engine on Ray needs the extra: pip install 'datasov[ray]'") from None

    def connect() -> None:
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False)
                return
            except (ConnectionError, ValueError):
                pass
            raise PeerError("no Ray cluster at this address: start one with `ray start --head`, or call ray.init()")

    connect()
    held = _Held(ray, hold)
    task = ray.remote(num_cpus=1, num_returns=2, max_retries=retries, retry_exceptions=False)(_work)

    def tasks(function: Callable[..., object], items: Iterable[object]) -> Iterator[Any]:
        carried = ray.put(_carried(function))
        limit = max(1, in_flight or 2 * int(ray.cluster_resources().get("CPU", 1)))
        left, running = iter(items), deque[tuple[Any, Any]]()
        try:
            while True:
                while len(running) < limit and (item := next(left, _END)) is not _END:
                    answer, whole = task.remote(_code(), carried, held.put(item))
                    running.append((answer, whole))
                if not running:
                    return
                answer, whole = running[0]
                fault, result = ray.get(answer)
                running.popleft()
                if fault is not None:
                    raise fault
                if _elsewhere(result):
                    result = (replace(result[0], ref=whole), *result[1:])
                yield result
        finally:
            for answer, _ in running:
                ray.cancel(answer)

    def engine(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
        connect()
        try:
            yield from tasks(function, items)
            return
        except ray.exceptions.RayTaskError:
            why = "a worker could not take up a task: install the same Python and datasov on every machine"
        except ray.exceptions.RayError:
            why = "the cluster lost a task or is out of memory: look at its machines, then ask again"
        raise PeerError(why)

    return engine


@dataclass(frozen=True, slots=True, repr=False)
class _Elsewhere:
    """A part whose vectors stay with the worker that made them: `ref` is it and its prices.

    Where its machine leaves, Ray makes it again from the same shard, which it keeps for that.
    """

    first: int
    residents: int
    ref: Any = None


def _elsewhere(item: object) -> TypeGuard[tuple[_Elsewhere, object]]:
    return isinstance(item, tuple) and bool(item) and isinstance(item[0], _Elsewhere)


def _work(code: bytes, carried: tuple[bytes, list[Any]], item: Any) -> tuple[tuple[DatasovError | None, Any], Any]:
    """What a worker does: (fault, result or what the driver sees of it), and the result that stays here, if any.

    A fault is a value, not an exception: Ray would send, keep and print an exception's text and traceback.
    """
    if code != _code():
        return (PeerError("a worker has other versions of datasov, Polars or NumPy: install the same"), None), None
    try:
        result = _Opened(io.BytesIO(carried[0]), buffers=carried[1]).load()(item)
    except (KeyboardInterrupt, SystemExit):
        raise
    except DatasovError as fault:
        return (fault, None), None
    except BaseException:  # a panic of Polars is no Exception
        return (InternalError("a task failed on a worker: please report it"), None), None
    if isinstance(result, tuple) and result and isinstance(result[0], Part):
        return (None, (_Elsewhere(result[0].first, result[0].residents), *result[1:])), result
    return (None, result), None


@functools.cache
def _code() -> bytes:
    """A digest of all that decides what a task computes."""
    root = Path(__file__).parents[1]
    sources = (path.read_bytes() for room in ("model", "kernel") for path in sorted((root / room).glob("*.py")))
    return sha256(b"\x00".join([pl.__version__.encode(), np.__version__.encode(), *sources]))


def _carried(function: Callable[..., object]) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A function and all that it closes over but shards, which travel as items alone; arrays apart, to be shared."""
    from ray.cloudpickle import CloudPickler

    class Pickler(CloudPickler):  # type: ignore[misc]
        def persistent_id(self, value: object) -> str | None:
            return "shard" if isinstance(value, Shard) else None

    into, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    Pickler(into, protocol=5, buffer_callback=buffers.append).dump(function)
    return into.getvalue(), buffers


class _Opened(pickle.Unpickler):
    def persistent_load(self, pid: object) -> None:
        """Nothing stands for a shard inside of a function."""


class _Held:
    """What is in the object store already: shards, up to `most` bytes, until the pool drops them."""

    def __init__(self, ray: Any, most: int) -> None:
        self._ray, self._most, self._lock, self._job = ray, most, threading.RLock(), ""
        self._kept: dict[int, tuple[tuple[object, ...], int, Any]] = {}

    def put(self, item: object) -> Any:
        """The reference of an item."""
        if _elsewhere(item):
            return item[0].ref
        if not isinstance(item, Shard):
            return self._ray.put(item)
        with self._lock:
            job = self._ray.get_runtime_context().get_job_id()
            if job != self._job:
                self._kept, self._job = {}, job
            # The rows live as long as their key here; one resident more without rows leaves the same rows.
            key, same = id(item.rows), (item.first, item.residents, item.order, id(item.profiles))
            if key in self._kept and self._kept[key][0] == same:
                return self._kept[key][2]
            self._kept.pop(key, None)
            ref = self._ray.put(item)
            frames = [frame for frame in (item.rows, item.profiles) if frame is not None]
            size = sum(int(frame.estimated_size()) for frame in frames)
            if size + sum(s for _, s, _ in list(self._kept.values())) <= self._most:
                self._kept[key] = same, size, ref
                for frame in frames:
                    weakref.finalize(frame, self._kept.pop, key, None).atexit = False
            return ref
