"""Run `promptreel` commands in a terminal of a given width."""

import contextlib
import fcntl
import os
import pty
import struct
import termios
import threading

from tests.pipeline_runs import start_promptreel


def in_terminal(*words, columns=80, **options):
    """Run a command whose output and errors go to one terminal; return (exit code, what the terminal received)."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns), **options.pop("env", {})}
    child = start_promptreel(*words, stdout=follower, stderr=follower, env=environment, **options)
    os.close(follower)
    received = []
    reader = threading.Thread(target=_read_all, args=(leader, received))
    reader.start()
    child.wait(timeout=120)
    reader.join(timeout=60)
    os.close(leader)
    return child.returncode, b"".join(received).decode().replace("\r\n", "\n")


def _read_all(leader, received):
    with contextlib.suppress(OSError):  # the terminal is gone when the child has closed it
        while part := os.read(leader, 65536):
            received.append(part)
