"""A command on a pseudo-terminal, as a user types it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time


class Terminal:
    """A command on a terminal of its own, and what a user would see there."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.command = [sys.executable, "-m", "datasov.cli", *arguments]
        self.process = subprocess.Popen(
            self.command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_controlling
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str) -> str:
        """Wait for a text; what came up to it."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 1)
            if ready:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.master, 4096).decode()
            assert time.monotonic() < deadline, self.seen
            assert ready or self.process.poll() is None, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def interrupt(self) -> None:
        """Ctrl-C, and again where one came just before the command began to wait, as anybody would press it."""
        for _ in range(6):
            os.write(self.master, b"\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
                return

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def end(self) -> tuple[str, int]:
        """All that was still shown, and the exit code."""
        deadline = time.monotonic() + 60
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                if select.select([self.master], [], [], 1)[0]:
                    self.seen += os.read(self.master, 4096).decode()
        if self.process.poll() is None and time.monotonic() >= deadline:
            self.process.kill()
        os.close(self.master)
        return self.seen.replace("\r\n", "\n"), self.process.wait(60)


def _controlling() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
