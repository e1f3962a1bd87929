"""Numbers in reports and messages: few digits, a typographic minus sign, an interval beside the mean."""

from __future__ import annotations

import math

UNKNOWN = "–"
SPACE = "\N{NO-BREAK SPACE}"
_PM = f"{SPACE}±{SPACE}"


def number(x: float | None, digits: int = 3) -> str:
    """``digits`` significant digits; no exponent where it can be avoided.

    >>> number(-0.012345), number(12345.6), number(0), number(None)
    ('−0.0123', '12,346', '0', '–')
    """
    if x is None or not math.isfinite(x):
        return UNKNOWN
    if x == 0:
        return "0"
    if abs(x) >= 1e7 or abs(x) < 1e-5:
        return _minus(f"{x:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    return _minus(f"{x:,.{decimals}f}")


def interval(mean: float, half: float, scale: float = 1.0, limit: int = 6, sign: bool = False) -> str:
    """``mean ± half`` with no-break spaces, both to two digits of the half width and at most ``limit`` decimals.

    >>> print(interval(0.02134, 0.00413), interval(0.0213, math.nan), interval(0.0213, 0.004, scale=100, limit=2))
    0.0213 ± 0.0041 0.0213 2.13 ± 0.40
    """
    mean, half = mean * scale, half * scale
    if not math.isfinite(mean):
        return UNKNOWN
    plus = "+" if sign and mean > 0 else ""
    if not math.isfinite(half):
        return plus + (_minus(f"{mean:,.{limit}f}") if limit < 6 else number(mean))
    size = max(half, abs(mean) * 1e-3)
    if size == 0:
        return f"0{_PM}0"
    decimals = 1 - math.floor(math.log10(size))
    if decimals > limit and limit >= 6:
        return f"{plus}{_minus(f'{mean:.2e}')}{_PM}{half:.1e}"
    decimals = min(limit, max(0, decimals))
    return f"{plus}{_minus(f'{mean:,.{decimals}f}')}{_PM}{half:,.{decimals}f}"


def percent(mean: float, half: float = math.nan, sign: bool = False) -> str:
    """A share as percent with its interval.

    >>> print(percent(0.0213, 0.004), percent(-0.5), percent(math.nan))
    2.13 ± 0.40 % −50.00 % –
    """
    text = interval(mean, half, scale=100, limit=2, sign=sign)
    return text if text == UNKNOWN else f"{text}{SPACE}%"


def probability(share: float) -> str:
    """A share of some thousand draws: two digits, and neither 0 nor 1.

    >>> [probability(share).replace(SPACE, " ") for share in (0.004, 0.5, 1.0)]
    ['< 0.01', '0.50', '> 0.99']
    """
    if math.isnan(share):
        return UNKNOWN
    if share < 0.005:
        return f"<{SPACE}0.01"
    return f">{SPACE}0.99" if share > 0.995 else f"{share:.2f}"


def p_value(p: float) -> str:
    """'p = 0.012', 'p < 0.0001'; unknown as such.

    >>> print(p_value(0.0123), p_value(1e-9))
    p = 0.012 p < 0.0001
    """
    if p < 1e-4:
        return f"p{SPACE}<{SPACE}0.0001"
    return f"p{SPACE}={SPACE}{number(p, 2)}"


def _minus(text: str) -> str:
    """The typographic minus sign; a zero bears none."""
    if text.startswith("-") and not any(c in "123456789" for c in text.split("e")[0]):
        return text[1:]
    return text.replace("-", "−")
