"""Runs a web server that ends with the program that started it, even when that is killed.

The program holds one end of a pipe, and a supervisor between it and the server holds the other: when the program dies,
of SIGKILL too, the supervisor reads the end of the pipe and ends the server with everything that it has started.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

GRACE = 5.0
"""Seconds that a server has to end by itself."""


def serve(command: Sequence[str], on_ready: Callable[[], None] | None = None, port: int = 0) -> int:
    """Runs a server until it ends, or this program is interrupted; its exit code, 130 after Ctrl-C.

    ``on_ready`` is called once something listens at ``port`` of this machine.
    """
    supervisor = [sys.executable, os.path.abspath(__file__), *command]  # noqa: PTH100 - what the program was run as
    process = subprocess.Popen(supervisor, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    if on_ready:
        threading.Thread(target=_when_ready, args=(process, port, on_ready), daemon=True).start()
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        process.stdin.close()
        process.wait()


def in_use(port: int) -> bool:
    """Whether something listens at a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _when_ready(process: subprocess.Popen[bytes], port: int, on_ready: Callable[[], None]) -> None:
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            on_ready()
            return
        time.sleep(0.2)


def supervise(command: Sequence[str]) -> int:
    """Runs a command in this process' own group until it ends, or the standard input does."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # sent to the whole group; handled, so that children get the default
    process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL)
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    code = process.wait()
    with suppress(ProcessLookupError):
        os.killpg(os.getpgrp(), signal.SIGTERM)  # what the server has left behind
    return code


def _watch(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
        return
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the server's program and its arguments")
    sys.exit(supervise(parser.parse_args().command))
