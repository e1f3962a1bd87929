"""Downloads one file of a data source: retries, checksum, progress, and never a part of a file under its name.

By pooch, which writes beside the target and moves the file there once its checksum is right.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from dse.errors import UserError
from dse.extras import missing_extra
from dse.tasks.data.sources import DataFile

RETRIES = 2
"""Further tries after a failure or a wrong checksum, 1 and 2 seconds later."""
TIMEOUT = 30.0
"""Seconds without a byte before a try is given up."""


class DownloadError(Exception):
    """A file could not be had, in a few words; the place it was to come from is named by the caller."""


def download(file: DataFile, target: Path) -> None:
    """Fetches `file` to `target`; on a terminal it shows how far it is.

    Raises `DownloadError` where it cannot be had or written, or pooch is not installed; `UserError` where what came,
    every time, is not the file with the published checksum.
    """
    try:
        import pooch
        from requests import RequestException
    except ModuleNotFoundError as error:
        raise DownloadError(missing_extra(error) or str(error)) from None
    seen = sys.stderr.isatty()
    pooch.get_logger().setLevel(logging.INFO if seen else logging.WARNING)
    fetcher = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: f"sha256:{file.sha256}"},
        urls={target.name: file.url},
        retry_if_failed=RETRIES,
    )
    try:
        fetcher.fetch(target.name, downloader=pooch.HTTPDownloader(progressbar=seen, timeout=TIMEOUT))
    except (OSError, RequestException) as error:
        raise DownloadError(_first_cause(error)) from None
    except ValueError as error:  # pooch's word for a wrong checksum, and requests' for an address it cannot read
        if "does not match the known hash" not in str(error):
            raise DownloadError(str(error)) from None
        raise UserError(
            f"{file.url}: checksum differs from the published sha256 {file.sha256[:16]}... in each of {RETRIES + 1} "
            "tries; the file is damaged there, or another version"
        ) from None


def _first_cause(error: BaseException) -> str:
    """What was wrong at the bottom of a chain of errors: 'network is unreachable' in place of four layers about it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error)


__all__ = ["DownloadError", "download"]
