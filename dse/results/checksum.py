"""Checksums of lines: a damaged line of a shard is recognized and never read as a result.

A line ``{..., "pack":{}}`` is written as ``{..., "pack":{},"crc":"3d1f5a02"}``, still JSON: the CRC-32 of the line
without it, in hexadecimal digits. Lines of earlier versions have none; readers that do not know the key leave it out.
"""

from __future__ import annotations

import re
import zlib

_TAIL = re.compile(rb',"crc":"([0-9a-f]{8})"}')
_FORM, _ANY = b',"crc":"????????"}', ord("?")
_LONG, _ALIKE = len(_FORM), 6
"""Bytes of a checksum, and how many of the ten that are always the same tell a damaged one from a line without."""


def seal(line: str) -> str:
    """A line of JSON, an object that is not empty, with its checksum.

    >>> seal('{"uid":"a"}')
    '{"uid":"a","crc":"9c986b53"}'
    """
    return f'{line[:-1]},"crc":"{zlib.crc32(line.encode()):08x}"}}'


def unseal(line: bytes) -> tuple[bytes, bool]:
    """The line as it was before ``seal``, and whether it had a checksum. Raises ValueError where that does not fit."""
    tail = _TAIL.fullmatch(line[-_LONG:])
    if not tail:
        alike = sum(own == form for own, form in zip(line[-_LONG:], _FORM, strict=False) if form != _ANY)
        if alike >= _ALIKE:
            raise ValueError("damaged: this was a checksum")
        return line, False
    line = line[:-_LONG] + b"}"
    if zlib.crc32(line) != int(tail[1], 16):
        raise ValueError("damaged: the checksum does not fit")
    return line, True


__all__ = ["seal", "unseal"]
