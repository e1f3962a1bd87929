"""Scale conventions: whether the stored block scale divides (decode) or multiplies (encode)."""

from dse.numerics.techniques.conventions.base import Convention, Factors, Level
from dse.numerics.techniques.conventions.decode import Decode
from dse.numerics.techniques.conventions.encode import Encode

DECODE = Decode()

CONVENTIONS: dict[str, type[Convention]] = {"decode": Decode, "encode": Encode}

__all__ = ["CONVENTIONS", "DECODE", "Convention", "Decode", "Encode", "Factors", "Level"]
