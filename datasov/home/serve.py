"""Running the page: one process, one socket on 127.0.0.1, until it is ended."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from datasov.errors import MissingExtraError, StoreError
from datasov.home.desk import Desk

_LOOPBACK, _WATCH = "127.0.0.1", 2.0


def require() -> None:
    """MissingExtraError unless the page can run here."""
    try:
        import jinja2  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("the page needs its extra: pip install 'datasov[gateway]'") from None


def serve(desk: Desk, port: int, opened: Callable[[str, str], None]) -> None:
    """Serve a desk's page until the process is told to end, then close the vault.

    Args:
        port: 0 takes a free one.
        opened: called once the socket listens, with the address for one browser, and the code in it.

    Raises:
        MissingExtraError: the extra `gateway` is missing. StoreError: the port is taken.
    """
    require()
    import uvicorn

    from datasov.home.app import app
    from datasov.home.door import Door

    with _listening(port) as found, _watched(desk):
        door = Door(found.getsockname()[1])
        settings = uvicorn.Config(
            app(desk, door), lifespan="off", access_log=False, log_level="warning", server_header=False,
            proxy_headers=False, timeout_keep_alive=20, limit_concurrency=64, ws="none", timeout_graceful_shutdown=3,
        )  # fmt: skip
        opened(door.address, door.code)
        uvicorn.Server(settings).run(sockets=[found])


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
        try:
            found.bind((_LOOPBACK, port))
        except OSError as fault:
            raise StoreError(f"port {port} cannot be used: {fault.strerror}; name another with --port") from None
        yield found


@contextlib.contextmanager
def _watched(desk: Desk) -> Iterator[None]:
    """The desk locks by itself while nobody asks for anything, and for good at the end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH):
            desk.lock_if_idle()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        desk.lock()
