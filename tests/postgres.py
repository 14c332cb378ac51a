"""A PostgreSQL server that tests start themselves, and kill."""

from __future__ import annotations

import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

_names = itertools.count(1)


def programs() -> Path | None:
    """The folder of the newest server's programs here, or None."""
    found = [Path(p).parent for p in glob.glob("/usr/lib/postgresql/*/bin/initdb")]
    found.sort(key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0)
    on_path = shutil.which("initdb")
    return found[-1] if found else (Path(on_path).resolve().parent if on_path else None)


class Server:
    """One server in a folder of its own, on a free port of this machine; it runs as `postgres` where root starts it."""

    def __init__(self, folder: Path, bin_: Path) -> None:
        self.folder, self._bin, self.data = folder, bin_, folder / "data"
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", "owner", "--auth=trust", "--no-sync", "-E", "UTF8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def url(self, schema: str | None = None, *, user: str = "owner", database: str = "postgres") -> str:
        """A store in a schema: of this name, or one that no other test has."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?schema={schema or f's{next(_names)}'}"

    def start(self, *options: str) -> None:
        settings = [
            "listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=''", "max_connections=60",
            "shared_buffers=16MB", "recovery_init_sync_method=syncfs", *options,
        ]  # fmt: skip
        given = " ".join(f"-c {s}" for s in settings)
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.data), "-o", given, "-l", log, "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """End it; "immediate" is as a crash: nothing is written any more."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "60", "stop")

    def kill(self) -> None:
        """SIGKILL to the server, and to every process of it."""
        main = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for process in (main, *map(int, children)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in (main, *map(int, children)):
            while Path(f"/proc/{process}").exists() and "Z" not in _state(process):
                time.sleep(0.01)
        (
            self.data / "postmaster.pid"
        ).unlink()  # where nobody waits for dead processes, they look alive to the next one

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints, unaligned, for a statement by the server's owner."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d", database)
        return self._run("psql", *where, "-XAtqc", text).strip()

    def _run(self, program: str, *given: str) -> str:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *given], capture_output=True, text=True, cwd="/", check=False,
            stdin=subprocess.DEVNULL,
        ) if program != "pg_ctl" else self._quiet(program, *given)  # fmt: skip
        if done.returncode:
            log = self.folder / "log"
            told = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}{told}")
        return done.stdout or ""

    def _quiet(self, program: str, *given: str) -> subprocess.CompletedProcess[str]:
        """The server outlives pg_ctl, and would hold a pipe open."""
        nowhere = subprocess.DEVNULL
        command = [*self._as, str(self._bin / program), *given]
        return subprocess.run(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, text=True, cwd="/", check=False)


class Wire:
    """A way to a server that loses one commit, and works again at once.

    Args:
        how: "before": the commit never reaches the server; "after": its answer never comes back; "late": the client has
            lost its connection when the server gets the commit, a second later.
    """

    def __init__(self, port: int) -> None:
        self._port, self.how, self.cuts = port, "", 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)

    def _start(self, what: Callable[..., None], *given: object) -> None:
        threading.Thread(target=what, args=given, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._start(self._there, client, server)
            self._start(self._back, client, server)

    def _there(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.how and b"COMMIT\0" in data:
                    how, self.how = self.how, ""
                    self.cuts += 1
                    if how == "late":
                        client.shutdown(socket.SHUT_RDWR)
                        time.sleep(1)
                        server.sendall(data)
                        time.sleep(0.2)
                    elif how == "after":
                        client.shutdown(socket.SHUT_RDWR)
                        server.sendall(data)
                        time.sleep(0.2)
                    break
                server.sendall(data)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return "Z"


def running() -> Iterator[Server]:
    """A server while a fixture lasts; the test is skipped where there is none on this machine."""
    pytest.importorskip("psycopg")
    bin_ = programs()
    if bin_ is None:
        pytest.skip("no PostgreSQL server here: install Debian's postgresql, or put initdb on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="datasov-postgres-"))
    folder.chmod(0o755)
    try:
        server = Server(folder, bin_)
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
