"""A network that is down, for tests of what is said then."""

from __future__ import annotations

import pytest


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is found and no address reached from now on; downloads are tried once, without waiting."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("dse.tasks.data.download.RETRIES", 0)
