"""Which addresses a process and its children listen on, from /proc (Linux)."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_LISTEN = "0A"


def children(pid: int) -> set[int]:
    """The process and everything that it has started, as far as it still runs below it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = set[int](), [pid]
    while waiting:
        own = waiting.pop()
        found.add(own)
        waiting += below.get(own, [])
    return found


def listening(pid: int) -> dict[str, set[str]]:
    """Address -> the names of the processes at or below ``pid`` that accept TCP connections there."""
    owners: dict[str, str] = {}
    for own in children(pid):
        try:
            name = Path(f"/proc/{own}/comm").read_text(encoding="utf-8").strip()
            for file in Path(f"/proc/{own}/fd").iterdir():
                target = str(file.readlink())
                if target.startswith("socket:["):
                    owners[target[8:-1]] = name
        except OSError:
            continue
    found: dict[str, set[str]] = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path("/proc/net", table)
        for line in path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in owners:
                found.setdefault(_address(fields[1].split(":")[0], family), set()).add(owners[fields[9]])
    return found


def _address(text: str, family: int) -> str:
    """Hexadecimal words, each in the processor's byte order, as an address."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))


def is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")
