"""What of a model is quantized: layer by layer, as shares of weights and of FLOPs, and what is left and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from dse.nn.kinds import active, gemms, is_quantized, is_router, matrices, refusal, remark
from dse.nn.select import holders, ranged, starred

REASONS, RULES = "_why_unquantized", "_rules_of_layers"
"""The attributes of a model under which quantization keeps, by name, why it left a layer, and which rule decided."""


@dataclass(frozen=True)
class LayerCoverage:
    """One layer: its name and class, [N, K] of its GEMM (several: of the first, and how many), and what became of it.

    ``weights``: elements of its matrices; ``flops``: 2 N K of the GEMMs for one row of X, which is a token or a pixel
    of a convolution's output (a transposed one's input); experts times the share that the router chooses. 0 for tables
    that are looked up or added. ``recipe``: the recipe's name where it is quantized, else empty; ``why``: why not;
    ``rule``: the name of the recipe's rule that decided about it, or empty.
    """

    name: str
    kind: str
    shape: str
    weights: int
    flops: int
    recipe: str
    why: str = ""
    rule: str = ""


@dataclass(frozen=True)
class Coverage:
    """The layers of a model, quantized or not, each weight once; see ``table``."""

    rows: tuple[LayerCoverage, ...]

    @property
    def quantized(self) -> tuple[LayerCoverage, ...]:
        """The rows of quantized layers."""
        return tuple(row for row in self.rows if row.recipe)

    @property
    def left(self) -> tuple[LayerCoverage, ...]:
        """The rows of layers that stay as they were."""
        return tuple(row for row in self.rows if not row.recipe)

    @property
    def weights(self) -> float:
        """Share of the matrix weights that is quantized: of all weights of GEMMs, without tables of embeddings."""
        return _share(sum(r.weights for r in self.quantized), sum(r.weights for r in self.rows if r.flops))

    @property
    def flops(self) -> float:
        """Share of the GEMMs' FLOPs that is quantized (rule: ``LayerCoverage``), without attention's products."""
        return _share(sum(r.flops for r in self.quantized), sum(r.flops for r in self.rows))

    def table(self) -> str:
        """The rows as text; layers that differ in the numbers of their names alone are one line."""
        groups: dict[tuple[str, ...], list[LayerCoverage]] = {}
        for r in self.rows:
            by = f" (rule {r.rule})" if r.rule and r.recipe else ""
            groups.setdefault((starred(r.name), r.kind, r.shape, r.recipe and r.recipe + by, r.why), []).append(r)
        head = ("layer", "kind", "N x K", "count", "weights", "what")
        often = Counter(group[:3] for group in groups)
        body = [
            (
                (ranged([r.name for r in same]) if often[name, kind, shape] > 1 else name) or ".",
                *(kind, shape, str(len(same)), f"{sum(r.weights for r in same):,}", recipe or f"left: {why}"),
            )
            for (name, kind, shape, recipe, why), same in groups.items()
        ]
        widths = [max(len(line[i]) for line in (head, *body)) for i in range(5)]
        aligned = [
            [
                text.rjust(width) if i > 2 else text.ljust(width)
                for i, (text, width) in enumerate(zip(line[:5], widths, strict=True))
            ]
            for line in (head, *body)
        ]
        lines = ["  ".join([*cells, line[5]]) for cells, line in zip(aligned, (head, *body), strict=True)]
        shares = f"{self.weights:.1%} of matrix weights, {self.flops:.1%} of GEMM FLOPs for each token (or pixel)"
        layers = f"{len(self.quantized)} of {len([r for r in self.rows if r.flops])} layers quantized"
        return "\n".join([*lines, f"{layers}: {shares}"])

    def __str__(self) -> str:
        return self.table()


def coverage(model: nn.Module) -> Coverage:
    """A table of the model's layers: which are quantized, which are not and why, as shares of weights and FLOPs."""
    names: dict[nn.Module, str] = {}
    for name, module in holders(model):
        names.setdefault(module, name)
    reasons, rules, seen = getattr(model, REASONS, {}), getattr(model, RULES, {}), set[int]()
    rows = [_row(name, module, reasons.get(name), seen) for module, name in names.items()]
    return Coverage(tuple(replace(row, rule=rules.get(row.name, "")) for row in rows))


def note(model: nn.Module, left: Mapping[str, str], ruled: Mapping[str, str]) -> None:
    """Keeps why quantization left layers, and by which rules, for ``coverage``; those of an earlier call stay."""
    setattr(model, REASONS, {**getattr(model, REASONS, {}), **left})
    setattr(model, RULES, {**getattr(model, RULES, {}), **ruled})


def _row(name: str, module: Any, reason: str | None, seen: set[int]) -> LayerCoverage:
    """``seen``: the weights that earlier layers multiply by, which count once."""
    refused, shapes = refusal(module), gemms(module)
    whole = bool(shapes) or hasattr(module, "parametrizations")
    own = [*matrices(module, inside=whole)]
    fresh = {id(p): p.numel() for _, p in own if id(p) not in seen}
    flops = round(sum(2 * n * k for n, k in shapes) * active(module)) if shapes else 0
    if refused or is_router(module):
        flops = 2 * sum(fresh.values())
    if flops:
        seen.update(fresh)
    shape = f"{shapes[0][0]} x {shapes[0][1]}" if shapes else ", ".join(f"{[*p.shape]}" for _, p in own)
    if len(shapes) > 1:
        shape += f" and {len(shapes) - 1} more"
    recipe = (module.recipe.name or "unnamed") if is_quantized(module) else ""
    if left := getattr(module, "left", "") if recipe else "":
        recipe, reason = "", left
    why = "" if recipe else reason or refused or ("not quantized" if shapes else remark(module))
    return LayerCoverage(name, type(module).__name__, shape, sum(fresh.values()), flops, recipe, why)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


__all__ = ["Coverage", "LayerCoverage", "coverage"]
