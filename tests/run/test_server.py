"""Servers end with the program that started them, however that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dse.run.tracking.server import serve
from tests.run.listening import is_loopback, listening

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import subprocess, sys, time
subprocess.Popen(["sleep", "600"])
print("up", flush=True)
time.sleep(600)
"""
"""A server with a child of its own; both hold the standard output."""


def started() -> subprocess.Popen[bytes]:
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in a shell's '&'
        f"from dse.run.tracking.server import serve; sys.exit(serve([sys.executable, '-c', {SERVER!r}]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_everything_ends_with_the_program(sign: signal.Signals) -> None:
    process = started()
    assert process.stdout is not None
    process.send_signal(sign)
    assert process.stdout.read() == b""  # returns once nobody holds the pipe any more
    process.wait()


def test_the_servers_exit_code() -> None:
    assert serve([sys.executable, "-c", "raise SystemExit(7)"]) == 7


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_mlflow_ends_with_the_dashboard(tmp_path: Path, sign: signal.Signals) -> None:
    (tmp_path / "x.yaml").write_text("tasks: [regression: {steps: 2}]\nrecipes: [mxfp4]\nseeds: 1\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dse.cli"]
    subprocess.run([*command, "run", "x.yaml", "--executor", "local"], cwd=tmp_path, env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dashboard = [*command, "dashboard", "--port", str(port)]
    process = subprocess.Popen(
        dashboard, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, b"")
        assert any(b"running on" in line for line in lines)  # said once it listens
        addresses = listening(process.pid)
        assert addresses
        assert all(map(is_loopback, addresses))
        process.send_signal(sign)
        process.stdout.read()  # until every server has ended
    finally:
        process.kill()
        process.wait()
