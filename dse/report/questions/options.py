"""Whether an option helps, by itself or together with another one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from dse.errors import UserError, nearest
from dse.number_format import interval, p_value
from dse.report.analysis.configs import ALL
from dse.report.analysis.effects import OPTION
from dse.report.analysis.matched_pairs import RECIPE
from dse.report.analysis.noise_words import WITHIN, in_doubt
from dse.report.questions.answer import Answer, Study
from dse.stats import Estimate
from dse.text import plural

OptionValue = tuple[str, str]
"""An axis and a value on it."""


def does_it_help(study: Study, question: str, what: str, other: str = "", without: bool = False) -> Answer:
    """The paired effect of an option over all tasks; with ``other``: among trials with it, beside those without."""
    axis, value = find_option(study, what, (a for a in study.table.axes if a not in study.table.ranged))
    if not other:
        return _by_itself(study, question, axis, value)
    axes = [RECIPE, *study.table.axes]
    where, level = find_option(study, other, (a for a in axes if a not in (axis, *study.table.ranged)))
    mine = [e for e in study.interactions if (e.axis, e.value, e.other) == (axis, value, where)]
    own = next((e for e in mine if e.level == level), None)
    if own is None:
        return Answer(question, f"{axis} = {value} with {where} = {level}: no pairs of trials, so this is not known.")
    base = next(e for e in mine if not e.against)
    shown, rest = (base, own) if without and own is not base else (own, base)
    text = f"{axis} = {value} instead of {own.reference} {_verdict(shown.effect)} "
    text += f"with {where} = {shown.level}: the improvement lost changes by {_points(shown.effect)} points"
    pair = own if own.interaction is not None else next((e for e in mine if e.interaction is not None), None)
    if rest is not shown:
        text += f", and by {_points(rest.effect)} with {where} = {rest.level}"
    if pair is not None and pair.interaction is not None:
        doubt = in_doubt(pair.interaction, pair.p_holm, pair.comparisons)
        clear = f" ({doubt})" if doubt else ""
        text += (
            f"; it changes {_points(pair.interaction)} points more with {pair.level} than with {pair.against}{clear}"
        )
    return Answer(question, f"{text}.", _with(study, {axis: value, where: shown.level}))


def _by_itself(study: Study, question: str, axis: str, value: str) -> Answer:
    mine = [e for e in study.effects if (e.kind, e.axis, e.value) == (OPTION, axis, value)]
    effect = next((e for e in mine if e.scope == ALL and not e.recipe), None)
    if effect is None:
        first = value == study.table.axes[axis][0]
        why = f"{value} is what others are compared with" if first else "no two trials differ in it alone"
        return Answer(question, f"{axis} = {value}: not known, {why}.")
    verdict = _verdict(effect.lost, effect.p_holm, effect.comparisons)
    text = f"{axis} = {value} instead of {effect.reference} {verdict}: the improvement "
    text += f"lost changes by {_points(effect.lost)} points over {effect.lost.n} seeds ({effect.better} of "
    text += f"{plural(effect.pairs, 'pair')} better"
    text += f", Holm {p_value(effect.p_holm)})" if math.isfinite(effect.p_holm) else ")"
    return Answer(question, f"{text}.", _with(study, {axis: value}))


def find_option(study: Study, phrase: str, axes: Iterable[str]) -> OptionValue:
    """The option value that words name: 'G.rounding=stochastic', 'stochastic rounding', 'hadamard'.

    Raises UserError when none or several are meant.
    """
    values = {RECIPE: study.table.recipes, **study.table.axes}
    choices = [(axis, value) for axis in axes for value in values[axis]]
    wanted = _words(phrase)
    plain = phrase.replace(" ", "")
    exact = [c for c in choices if plain in (f"{c[0]}={c[1]}".replace(" ", ""), c[1].replace(" ", ""))]
    found = exact or [c for c in choices if wanted and all(_meant(word, c) for word in wanted)]
    # an axis alone means its values beside the first
    found = found if len(found) < 2 else [c for c in found if c[1] != values[c[0]][0]] or found
    if len(found) == 1:
        return found[0]
    names = [f"{axis}={value}" for axis, value in found or choices]
    if found:
        raise UserError(f"{phrase!r} may be {', '.join(names[:8])}; name one")
    raise UserError(f"the sweep has no option {phrase!r}{nearest(phrase, names)}")


def _meant(word: str, choice: OptionValue) -> bool:
    return any(own.startswith(word) or (word.startswith(own) and len(own) > 3) for own in _words(" ".join(choice)))


def _words(text: str) -> list[str]:
    return [w for w in re.split(r"[^\w*]+", text.lower()) if w and w not in ("the", "a", "an", "of", "and")]


def _verdict(effect: Estimate, p: float | None = None, comparisons: int = 1) -> str:
    if math.isnan(effect.mean):
        return "has an unknown effect"
    if not effect.df > 0:
        return f"seems {'to help' if effect.mean < 0 else 'not to help'} (one seed, no interval)"
    if doubt := in_doubt(effect, p, comparisons):
        tail = "" if doubt == WITHIN else f" ({doubt})"
        return f"makes no difference beyond the noise{tail}"
    return "helps" if effect.mean < 0 else "hurts"


def _points(e: Estimate) -> str:
    return interval(e.mean, e.half, scale=100, limit=2, sign=True)


def _with(study: Study, options: dict[str, str]) -> tuple[str, ...]:
    rows = [row for row in study.table.rows if all(row[axis] == value for axis, value in options.items())]
    return tuple(row["uid"] for row in rows if row["uid"] in study.table.records)


__all__ = ["does_it_help", "find_option"]
