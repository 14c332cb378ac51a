"""An aggregator over HTTP: POST to a path, bytes in and bytes out; refusals as JSON. It decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from datasov.aggregator.client import KINDS
from datasov.aggregator.door import SECONDS, Door, Full
from datasov.errors import ConflictError, DatasovError, MissingExtraError

PAUSE = 0.2
"""Seconds between two looks for whole batches."""
SWITCH = 0.0005
"""Seconds that the thread which aggregates may keep the interpreter from those that read and send. With Python's own
5 ms, at every piece of a message, the other aggregator would wait for a fifth of the time."""
_LOG = logging.getLogger("datasov.aggregator")


def app(
    handle: Callable[[str, bytes], bytes], work: Callable[[], int], door: Door | None = None, seconds: float = SECONDS
) -> Any:  # fmt: skip
    """An ASGI application.

    Args:
        handle: answers a request. work: aggregates what is there; called again and again beside it.
        door: what is taken in at once. seconds: within which a body has to arrive.

    Raises:
        MissingExtraError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import Response
        from starlette.routing import Route
    except ImportError:
        raise MissingExtraError("an aggregator serves over HTTP: pip install 'datasov[two-server]'") from None

    entrance = Door() if door is None else door

    async def post(request: Request) -> Response:
        path = request.path_params["path"]
        try:
            with entrance.request(path) as body:
                async with asyncio.timeout(seconds):
                    async for piece in request.stream():
                        body.add(piece)
                return await run_in_threadpool(_answer, handle, path, bytes(body.data), Response)
        except ClientDisconnect:
            return Response(status_code=400)
        except TimeoutError:
            return refused(408, "the request took too long to arrive: send less at once")
        except Full as full:
            return refused(full.status, str(full))

    def refused(status: int, message: str) -> Response:
        kind = "PeerError" if status == 503 else "InvalidDataError"
        return Response(json.dumps({"error": kind, "message": message}), status, media_type="application/json")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        over = threading.Event()
        worker = threading.Thread(target=_work, args=(work, over), daemon=True)
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        worker.start()
        yield
        over.set()
        worker.join(timeout=30)
        sys.setswitchinterval(before)

    return Starlette(routes=[Route("/{path}", post, methods=["POST"])], lifespan=lifespan)


def _answer(handle: Callable[[str, bytes], bytes], path: str, body: bytes, response: Any) -> Any:
    try:
        return response(handle(path, body), 200, media_type="application/octet-stream")
    except DatasovError as fault:
        kind = next((k.__name__ for k in type(fault).__mro__ if k.__name__ in KINDS), "PeerError")
        text, status = (str(fault), 400) if kind != "PeerError" or type(fault).__name__ == "PeerError" else ("", 503)
        text = text or "it cannot answer now: try again later"
        return response(json.dumps({"error": kind, "message": text}), status, media_type="application/json")
    except Exception:
        _LOG.error("a request failed: please report it")
        return response(b"", 500)


def _work(work: Callable[[], int], over: threading.Event) -> None:
    while not over.is_set():
        try:
            done = work()
        except ConflictError:
            done = 0
        except DatasovError as fault:
            _LOG.warning("a batch waits: %s", fault)
            done = 0
        except Exception:
            _LOG.error("a batch failed: please report it")
            done = 0
        if not done:
            over.wait(PAUSE)
