"""A gateway on a port of this machine, for tests that speak HTTP to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import uvicorn

import datasov as ds
from datasov.gateway.app import app
from datasov.gateway.auth import LocalToken
from datasov.gateway.shared import Limits

TOKEN = "t" * 43
MANY = Limits(client_rate=1e6, client_burst=10**6, all_rate=1e6, all_burst=10**6)


@contextmanager
def serving(
    city: ds.City, tables: Mapping[str, ds.Schema], clock: Callable[[], float], limits: Limits = MANY,
    scheduled: bool = False,
) -> Iterator[str]:  # fmt: skip
    """The address of a gateway over an open city. `scheduled`: it takes up letters and ticks by itself."""
    made = app(city, verifier=LocalToken(TOKEN), tables=tables, limits=limits, clock=clock)
    config = uvicorn.Config(made, log_level="error", lifespan="on" if scheduled else "off", access_log=False, ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            if not scheduled:
                made.state.shared.close()
