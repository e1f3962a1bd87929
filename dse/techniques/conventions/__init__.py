"""Scale conventions: whether the stored block scale divides (decode) or multiplies (encode)."""

from dse.techniques.conventions.base import Convention, Factors, Level
from dse.techniques.conventions.decode import Decode
from dse.techniques.conventions.encode import Encode

DECODE = Decode()

CONVENTIONS: dict[str, type[Convention]] = {"decode": Decode, "encode": Encode}

__all__ = ["CONVENTIONS", "DECODE", "Convention", "Decode", "Encode", "Factors", "Level"]
