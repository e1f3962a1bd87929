"""A private Ray cluster: it listens on the loopback interface, and asks for a token that only its own processes know.

Whoever reaches a Ray cluster can run code in it. Ray's servers listen on every interface unless the node's address is
127.0.0.1, and on Linux one variable makes it so, which Ray reads when it is imported, and its other processes when they
start. Token authentication exists since Ray 2.52 (https://docs.ray.io/en/latest/ray-security/token-auth.html).
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: nodes have the address 127.0.0.1, whatever the system
_MODE, _TOKEN, _FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


_LONGEST = 30  # characters of a temporary folder below which the names of Ray's sockets still fit
_PREFIX = "dse-ray-"


def session_folder() -> str | None:
    """A new folder for Ray's session, sockets and logs, readable by this user alone; None where RAY_TMPDIR is set.

    Ray makes its own folder readable by everybody, so it gets one inside of a folder that is not.
    """
    if "RAY_TMPDIR" in os.environ:
        return None
    place = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place if len(place) <= _LONGEST else "/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return os.path.join(folder, "ray")  # noqa: PTH118 - Ray takes text


@contextmanager
def private_cluster() -> Iterator[None]:
    """Context in which ``ray.init`` of a local cluster makes a private one. The user's own settings of a token stay.

    The token is in the environment of this process and of Ray's, which only their user can read; it is in no file.
    """
    own = {_LOOPBACK: "0", _MODE: "token"}
    if _TOKEN not in os.environ and _FILE not in os.environ:
        own[_TOKEN] = secrets.token_hex(32)
    before = {name: os.environ.get(name) for name in own}
    for name, value in own.items():
        os.environ[name] = value if name == _TOKEN else os.environ.get(name, value)
    clusters = _apply(os.environ[_LOOPBACK] != "0")
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
        _apply(clusters)


def _apply(clusters: bool) -> bool:
    """Makes the settings effective in this process, where Ray may have been imported with others before.

    ``clusters``: whether nodes may have other addresses than 127.0.0.1. Returns what was set before.
    """
    before = clusters
    with suppress(ImportError, AttributeError):
        from ray._private import ray_constants

        before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, clusters
    with suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
    return bool(before)


__all__ = ["private_cluster", "session_folder"]
