"""A page's shell block, run by bash as it stands, with every `datasov` in this process and a clock that `sleep` moves.

So a block that starts a dozen commands and two servers takes a second or two. What is replaced is where the commands
run, the clock, and which ports are free; HTTP, stores, vaults and the commands themselves are the real ones.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

import datasov as ds
from datasov.cli import main
from datasov.commands import aggregator, collecting
from tests.helpers import Clock

_SHIM = """#!{python} -SE
import json, os, socket, sys
way = socket.socket(socket.AF_UNIX)
way.connect({address!r})
file = way.makefile("rwb")
file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode() + b"\\n")
file.flush()
code, out, err = json.loads(file.readline() or b"[1, \\"\\", \\"ended\\"]")
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
_END = "kill $(jobs -p) 2>/dev/null || true"
"""Whatever fails, what runs beside it is ended, and lets go of the output."""


class Shell:
    """Runs blocks in a folder, which must be the working directory. `servers`: how many a question waits for."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *, servers: int) -> None:
        self.folder, self.clock, self._wanted = folder, Clock(), servers
        self._guard, self._started, self._over = threading.Lock(), list[uvicorn.Server](), list[threading.Event]()
        for opener in (ds.City.open, ds.Resident.open, ds.Resident.create):
            patch.setitem(opener.__func__.__kwdefaults__, "clock", self.clock)  # type: ignore[attr-defined]
        for module in (aggregator, collecting):
            patch.setattr(module, "time", SimpleNamespace(time=self.clock))
        patch.setattr(uvicorn, "run", self._serve)
        patch.chdir(folder)

    def run(self, text: str) -> str:
        """What a block printed, once its exit code is 0."""
        with tempfile.TemporaryDirectory() as bin_:
            address = f"{bin_}/way"
            for name in ("datasov", "sleep"):
                shim = Path(bin_, name)
                shim.write_text(_SHIM.format(python=sys.executable, address=address))
                shim.chmod(0o755)
            shell = self

            class Handler(socketserver.StreamRequestHandler):
                def handle(self) -> None:
                    told = json.dumps(shell._called(*json.loads(self.rfile.readline()))).encode()
                    with contextlib.suppress(OSError):  # the command was ended
                        self.wfile.write(told + b"\n")

            class Server(socketserver.ThreadingUnixStreamServer):
                daemon_threads = True
                block_on_close = False

            with Server(address, Handler) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", f"trap '{_END}' EXIT\n{text}"], cwd=self.folder,
                    capture_output=True, text=True, timeout=120,
                    env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
                )  # fmt: skip
                server.shutdown()
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr

    def close(self) -> None:
        """End the servers."""
        for each in self._started:
            each.should_exit = True
        for over in self._over:
            over.wait(30)

    def _called(self, name: str, *arguments: str) -> tuple[int, str, str]:
        if name == "sleep":
            self.clock.now += int(arguments[0])
            return 0, "", ""
        if arguments[:2] == ("aggregator", "serve"):
            return _code(arguments), "", ""
        if arguments[1:2] in (("collect",), ("answer",), ("ask",)):
            self._wait()
        out, err = io.StringIO(), io.StringIO()
        with self._guard, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _code(arguments)
        return code, out.getvalue(), err.getvalue()

    def _serve(self, app: Any, **given: Any) -> None:
        server = uvicorn.Server(uvicorn.Config(app, **given))
        over = threading.Event()
        self._started.append(server)
        self._over.append(over)
        try:
            server.run()
        finally:
            over.set()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while sum(each.started for each in self._started) < self._wanted:
            assert time.monotonic() < end, "the servers do not start"
            time.sleep(0.01)


def _code(arguments: tuple[str, ...]) -> int:
    try:
        return main(arguments)
    except SystemExit as left:
        return int(left.code or 0)


def block(page: str, number: int = 0) -> str:
    """A shell block of a page."""
    return re.findall(r"```sh\n(.*?)```", page, re.S)[number]
