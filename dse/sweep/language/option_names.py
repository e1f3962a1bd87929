"""Canonical paths of options, from other spellings: ``lr`` is ``training.lr``, ``g.Rounding`` is ``G.rounding``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from typing import get_type_hints

from dse.numerics.block import BlockQuantizer
from dse.numerics.gemm import Gemm
from dse.numerics.recipe import RECIPE_OPTIONS, SELECTORS, Exempt, is_option_path
from dse.numerics.registry import FAMILIES
from dse.sweep.language.labels import HEAD
from dse.sweep.language.words import fold, match_choice
from dse.tasks import TASKS
from dse.tasks.base import Training

TOP_KEYS = (
    "include", "name", "tasks", "recipes", "seeds", "baseline", "training", "grid", "zip", "when", "exclude", "search",
    "probes", "save", "plugins", "places",
)  # fmt: skip
"""The keys of a sweep file."""

TASK_KEYS = ("training", "start", "grid", "zip", "when")
"""What stands beside a task's options."""

SINGULAR = {
    "task": "tasks",
    "recipe": "recipes",
    "baselines": "baseline",
    "includes": "include",
    "excludes": "exclude",
    "plugin": "plugins",
    "place": "places",
}
"""Singular and plural forms of keys -> the key."""


SYNONYMS = {"learning_rate": "lr", "batch_size": "batch", "num_steps": "steps"}
"""Common names of training settings -> theirs."""


def training_setting(word: str) -> str:
    """A training setting in its own spelling; any other word as it is."""
    return str(match_choice(SYNONYMS.get(fold(word), word), training_settings()))


def is_nested(path: str, value: object) -> bool:
    """Whether ``{G: {rounding: ...}}`` was written for ``G.rounding``: options of points, and not a whole quantizer."""
    kind = match_choice(path, tuple(SELECTORS))
    if kind not in SELECTORS or not isinstance(value, dict) or not value:
        return False
    options = {f.name for cls in (BlockQuantizer, Gemm) for f in fields(cls)} - {"lhs", "rhs"}
    return all(
        match_choice(key.split(".")[0], option_words()) in options and not (key == "block" and isinstance(own, dict))
        for key, own in value.items()
    )


@cache
def training_settings() -> tuple[str, ...]:
    """The names of training settings."""
    return tuple(f.name for f in fields(Training))


def option_words() -> tuple[str, ...]:
    """Every word that may stand behind the first in the path of a numerics option."""
    return _option_words(sum(map(len, FAMILIES.values())))


@cache
def _option_words(members: int) -> tuple[str, ...]:
    """``members``: how many techniques there are, which grows when a plugin is loaded."""
    owners: list[type] = [
        BlockQuantizer,
        Gemm,
        Exempt,
        *(cls for family in FAMILIES.values() for cls in family.values()),
    ]
    found = [f.name for cls in owners if is_dataclass(cls) for f in fields(cls)]
    return tuple(dict.fromkeys([*found, "lhs", "rhs", "scores", "outputs", *SELECTORS]))


def task_options() -> tuple[str, ...]:
    """The names of options of the tasks that are known by now."""
    return tuple(dict.fromkeys(f.name for cls in TASKS.values() for f in fields(cls)))


def split_path(path: str) -> tuple[str, str]:
    """A path's kind and option: ('training', 'lr'), ('task', 'size'), ('numerics', 'G.rounding'), or ('', path)."""
    name = canonical_path(path)
    head, _, option = name.partition(".")
    if head in ("training", "task") and option:
        return head, option
    return ("numerics", name) if is_option_path(name) else ("", path)


def canonical_path(path: str, heads: bool = True) -> str:
    """The path in its own spelling; as it is where it is no path, or could be two.

    ``heads``: whether ``tasks``, ``recipes`` and ``seeds`` stand for the axes of these names.

    >>> canonical_path("lr"), canonical_path("training.weight-decay"), canonical_path("g.Rounding")
    ('training.lr', 'training.weight_decay', 'G.rounding')
    """
    if path in HEAD:
        return path
    if heads and path.removesuffix("s") in HEAD:
        return path.removesuffix("s")
    kind, dot, option = path.partition(".")
    kind = str(match_choice(kind, ("training", "task", *RECIPE_OPTIONS, *SELECTORS)))
    if kind == "training" and dot:
        return f"training.{training_setting(option)}"
    if kind == "task" and dot:
        return f"task.{match_choice(option, task_options())}"
    if dot:
        rest = [match_choice(word, option_words()) for word in option.split(".")]
        whole = ".".join([kind, *rest])
        return whole if is_option_path(whole) else path
    if is_option_path(kind):
        return kind
    found = [f"training.{name}" for name in (training_setting(path),) if name in training_settings()]
    found += [f"task.{name}" for name in (match_choice(path, task_options()),) if name in task_options()]
    return found[0] if len(found) == 1 else path


def short_names() -> dict[str, str]:
    """Every name that stands for the path of a training setting or a task's option -> that path."""
    names = dict.fromkeys((*training_settings(), *task_options()))
    return {name: path for name in names if (path := canonical_path(name)) != name}


def takes_integers(path: str) -> bool:
    """Whether whole numbers are meant where both ends of a range are whole: not for an option that takes decimals."""
    kind, _, option = path.partition(".")
    owners: list[type] = [Training] if kind == "training" else list(TASKS.values()) if kind == "task" else []
    return not any(get_type_hints(owner).get(option) is float for owner in owners)


def spelling_hint(path: str) -> str:
    """How to write an option that was named without its quantization points; empty for any other word."""
    name = match_choice(path.split(".")[0], option_words())
    own = {f.name for cls in (BlockQuantizer, Gemm) for f in fields(cls)} - set(get_type_hints(Exempt))
    if name not in own or name in ("lhs", "rhs"):
        return ""
    rest = path.partition(".")[2]
    whole = f"{name}.{rest}" if rest else name
    return f"; write '*.{whole}' for all quantization points, or G.{whole} for the gradients, say"


__all__ = ["HEAD", "SINGULAR", "TASK_KEYS", "TOP_KEYS", "canonical_path", "option_words", "spelling_hint", "split_path"]
