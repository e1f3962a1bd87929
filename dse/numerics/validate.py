"""Combinations of options that have no meaning, each with its reason: no option is silently ignored.

Options are set one at a time and in any order, so a recipe may pass through states that mean nothing on its way to one
that does. The whole recipe is therefore looked at once, when everything is set; ``plan`` lists what is refused here as
excluded. Values that no combination could mend are refused where they are set, by the technique itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from dse.errors import OptionError
from dse.numerics.attention import PRODUCTS, Attention, Product
from dse.numerics.block import BlockQuantizer
from dse.numerics.quantizer import Identity
from dse.numerics.recipe import GEMMS, POINTS, SELECTORS, Exempt, Recipe
from dse.numerics.recipe_fields import quantizes
from dse.numerics.techniques.choices import IF4, FourOverSix, ScaleSweep
from dse.numerics.techniques.conventions import Encode
from dse.numerics.techniques.corrections import Eden
from dse.numerics.techniques.outliers import Asymmetric
from dse.numerics.techniques.post import PostTraining, Rtn, candidates
from dse.numerics.techniques.rounding import NEAREST_EVEN, MantissaEven
from dse.numerics.techniques.schedules import ForwardOnly, NoiseSwitch, Switch
from dse.numerics.techniques.slopes import STRAIGHT_THROUGH, Spline
from dse.numerics.techniques.statistics import ABSMAX, HardSoft


def check(recipe: Recipe) -> None:
    """Raises OptionError ('path: reason') for the first combination that has no meaning."""
    for reason in reasons(recipe):
        raise OptionError(reason)


def reasons(recipe: Recipe) -> Iterator[str]:
    """Every combination in the recipe that has no meaning, as 'path: reason'."""
    yield from _triple(recipe)
    yield from _whole(recipe)
    if recipe.attention is not None:
        for name in PRODUCTS:
            product = getattr(recipe.attention, name)
            found = (*_triple(product), *_copies(product), *_at_attention(product))
            yield from (f"attention.{name}.{reason}" for reason in found)
        yield from _attention(recipe, recipe.attention)
    for rule in recipe.layers:
        if (own := recipe.under(rule)) is not None:
            yield from (f"layers.{rule.name}.{reason}" for reason in reasons(own))


def _triple(owner: Recipe | Product) -> Iterator[str]:
    """In the three GEMMs of the linears, or of a product of attention."""
    for point in POINTS:
        q = owner.quantizer(point)
        if isinstance(q, BlockQuantizer):
            found = [reason for rule in _AT_A_POINT for reason in rule(q)]
            derivatives = _differentiated(q) if point in SELECTORS["forward"] else _never_differentiated(q, owner)
            yield from (f"{point}.{reason}" for reason in (*derivatives, *found))
    yield from _gemms(owner)


def _differentiated(q: BlockQuantizer) -> Iterator[str]:
    """At the forward points: slopes of scales need a gradient that flows through the scale."""
    if q.scale_slope != STRAIGHT_THROUGH and q.scale_gradient == "constant" and _through(q) == "ignore":
        yield "scale_slope: no gradient flows through the scale while scale_gradient is 'constant'"
    if isinstance(q.statistic, HardSoft) and q.scale_gradient == "constant":
        yield "statistic: hard_soft is absmax but for its gradient, and scale_gradient is 'constant'"


def _never_differentiated(q: BlockQuantizer, owner: Recipe | Product) -> Iterator[str]:
    """At the backward points: an option about derivatives is idle, and welcome only as a copy of one that is at work.

    ``*.slope: dge`` is such a copy at the backward points, ``G.slope: dge`` is not.
    """
    forward = [f for point in SELECTORS["forward"] if isinstance(f := owner.quantizer(point), BlockQuantizer)]
    for name, value, usual in (
        ("slope", lambda f: f.slope, STRAIGHT_THROUGH),
        ("scale_slope", lambda f: f.scale_slope, STRAIGHT_THROUGH),
        ("scale_gradient", lambda f: f.scale_gradient, "constant"),
        ("tensor_scale.through", _through, "ignore"),
        ("statistic", lambda f: f.statistic if isinstance(f.statistic, HardSoft) else ABSMAX, ABSMAX),
    ):
        if value(q) != usual and value(q) not in [value(f) for f in forward]:
            yield f"{name}: only X and W of the forward GEMM are differentiated; set it there, at forward"


def _through(q: BlockQuantizer) -> str:
    return "ignore" if q.tensor_scale is None else q.tensor_scale.gradient


def _scales(q: BlockQuantizer) -> Iterator[str]:
    """Roundings and slopes of scales need a grid that is coarser than the arithmetic."""
    if isinstance(q.rounding, MantissaEven):
        yield "rounding: mantissa_even is a rule for power-of-two scales; set scale_rounding"
    if isinstance(q.scale_rounding, MantissaEven) and q.scale.man:
        yield f"scale_rounding: mantissa_even is a rule for power-of-two scales, not for {q.scale.name}"
    if q.scale.exp == 8 and q.scale.man == 23:
        for name, acts in (
            ("scale_rounding", q.scale_rounding != NEAREST_EVEN),
            ("scale_slope", q.scale_slope != STRAIGHT_THROUGH),
        ):
            if acts:
                yield f"{name}: the scale is computed in FP32, so a cast to fp32 rounds nothing"
    elif isinstance(q.scale_slope, Spline) and q.scale.exp == 8:
        yield f"scale_slope: any real scale lies below the first of the spline's points over [0, {q.scale.max:.2g}]"


def _conventions(q: BlockQuantizer) -> Iterator[str]:
    """The zero policy needs a scale that can be zero, the divisor a tensor scale."""
    default = type(q.convention)()
    if isinstance(q.convention, Encode) and q.convention.divisor and q.tensor_scale is None:
        yield "convention: encode's divisor is the tensor scale's, and tensor_scale is none"
    if q.convention.zero != default.zero and not q.scale.subnormals:
        yield f"convention: zero has no meaning for {q.scale.name}, which has no zero"
    elif q.convention.zero == "smallest" != default.zero and q.scale.smallest < 2.0**-127:
        yield f"convention: zero 'smallest' is {q.scale.smallest:.2g} in {q.scale.name}, whose inverse overflows FP32"


def _tensor_scales(q: BlockQuantizer) -> Iterator[str]:
    """The target needs a convention that uses it and a scale format that holds it."""
    if q.tensor_scale is None:
        return
    target = q.tensor_scale.target
    if isinstance(q.convention, Encode) and not q.convention.divisor:
        if target != type(q.tensor_scale)().target:
            yield "tensor_scale: encode without divisor has no target"
    elif target is not None and target > q.scale.max:
        yield f"tensor_scale: target {target:g} is above {q.scale.name}'s largest value, {q.scale.max:g}"
    if q.tensor_scale.remembers and isinstance(q.outliers, Asymmetric):
        yield "outliers: asymmetric has two references per operand, and a delayed tensor scale holds one"


def _choices(q: BlockQuantizer) -> Iterator[str]:
    """Choices are about certain formats."""
    choice, largest = q.choice, q.constant in (None, q.element.max)
    if isinstance(choice, FourOverSix | IF4) and (q.element.name != "e2m1" or not largest):
        yield f"choice: {'four_over_six' if isinstance(choice, FourOverSix) else 'if4'} needs e2m1 elements, constant 6"
    if isinstance(choice, IF4) and q.scale.bits % 8 == 0:
        yield f"choice: if4 marks a block in a spare bit of its scale, and {q.scale.name} has none"
    if isinstance(choice, ScaleSweep) and choice.low == choice.high:
        yield "choice: scale_sweep from 0 to 0 has nothing to choose from"


def _corrections(q: BlockQuantizer) -> Iterator[str]:
    """New scales take the place of those that decode, for groups of whole blocks."""
    if q.correction is None:
        return
    if isinstance(q.convention, Encode):
        yield "correction: eden makes new scales that decode, and encode stores their inverses"
    if q.micro_exponents:
        yield "correction: eden makes one scale per block, and micro_exponents give its parts their own"
    if isinstance(q.correction, Eden) and q.block and q.correction.group > q.block and q.correction.group % q.block:
        yield f"correction: groups of {q.correction.group} elements are not whole blocks of {q.block}"


_AT_A_POINT = (_scales, _conventions, _tensor_scales, _choices, _corrections)


def _gemms(owner: Recipe | Product) -> Iterator[str]:
    """A rotation without quantization cancels."""
    for name in GEMMS:
        if getattr(owner, name).rotation is not None and not quantizes(getattr(owner, name)):
            yield f"{name}.rotation: neither operand has a block quantizer, so it cancels"


def _whole(recipe: Recipe) -> Iterator[str]:
    """Options of the recipe need something quantized to act on."""
    yield from _copies(recipe)
    if isinstance(recipe.schedule, Switch):
        yield from (f"schedule.to.{reason}" for reason in (*_triple(recipe.schedule.to), *_copies(recipe.schedule.to)))
    everywhere = (recipe, *recipe.numerics)
    owners = [*everywhere, *(getattr(own.attention, name) for own in everywhere if own.attention for name in PRODUCTS)]
    backward = any(quantizes(owner.dgrad) or quantizes(owner.wgrad) for owner in owners)
    if not any(quantizes(owner.fprop) for owner in owners) and not backward:
        for option, acts in (("schedule", recipe.schedule is not None), ("exempt", recipe.exempt != Exempt())):
            if acts:
                yield f"{option}: the recipe quantizes nothing"
    elif isinstance(recipe.schedule, ForwardOnly) and not backward:
        yield "schedule: forward_only takes the backward GEMMs to BF16, and they quantize nothing"
    elif isinstance(recipe.schedule, NoiseSwitch) and _unwatched(recipe):
        yield "schedule: noise_switch watches the quantization noise of G, and dgrad.lhs has no block quantizer"
    yield from _decomposition(recipe)
    if recipe.weights is not None:
        try:
            recipe.weights.check(recipe.fprop.rhs, rotated=recipe.fprop.rotation is not None)
        except OptionError as error:
            yield str(error)
    if recipe.post is not None:
        yield from _after_training(recipe, recipe.post)


def _after_training(recipe: Recipe, post: PostTraining) -> Iterator[str]:
    """After training there are no steps, and W is quantized by the method."""
    for option in ("schedule", "weights", "decomposition"):
        if getattr(recipe, option) is not None:
            yield f"{option}: it acts in training, and post quantizes weights after it"
    if recipe.attention is not None and not isinstance(recipe.fprop.rhs, BlockQuantizer):
        if post != Rtn():
            yield "post: fprop.rhs has no block quantizer, so there are no weights to decide about; write post: rtn"
    else:
        try:
            post.check_gemm(recipe.fprop)
        except OptionError as error:
            yield str(error)
    for gemm, _ in candidates(post, recipe.fprop)[1:]:
        if isinstance(gemm.rhs, BlockQuantizer):
            yield from (f"post.formats: {reason}" for rule in _AT_A_POINT for reason in rule(gemm.rhs))
            if gemm.rhs.remembers:
                yield "post.formats: tensor_scale: it is held from step to step, and after training there are none"
    for point in SELECTORS["forward"]:
        if recipe.quantizer(point).remembers:
            yield f"{point}.tensor_scale: it is held from step to step, and after training there are none"


def _decomposition(recipe: Recipe) -> Iterator[str]:
    """Products in parts need a GEMM to split, and gradients that go straight through the quantizers."""
    own = recipe.decomposition
    if own is None:
        return
    if not any(quantizes(getattr(recipe, name)) for name in own.splits):
        yield f"decomposition: it splits {', '.join(own.splits)}, and no block quantizer is there"
    if not own.turns and any(getattr(recipe, name).rotation is not None for name in own.splits):
        yield "decomposition: it speaks of channels, and a rotated GEMM quantizes mixtures of them"
    if not (recipe.fprop.lhs.straight_through and recipe.fprop.rhs.straight_through):
        yield "decomposition: gradients go straight through its parts, and fprop's quantizers have their own derivative"
    if recipe.weights is not None and recipe.weights.quantizes:
        yield "decomposition: the weight rule quantizes W element by element, and a decomposition quantizes parts of it"
    if recipe.backward_source == "forward" and recipe.fprop.rotation is not None:
        yield "decomposition: forward copies of its parts are made without fprop.rotation"


def _copies(owner: Recipe | Product) -> Iterator[str]:
    """Forward copies are made where something is quantized."""
    if owner.backward_source == "forward" and not quantizes(owner.fprop):
        yield "backward_source: the forward GEMM quantizes nothing, so its copies are the originals"


def _at_attention(product: Product) -> Iterator[str]:
    """Samples and heads come and go, so nothing can be held for them."""
    for point in POINTS:
        if product.quantizer(point).remembers:
            yield f"{point}.tensor_scale: each sample and head has its own, so none is held from step to step"


def _attention(recipe: Recipe, attention: Attention) -> Iterator[str]:
    """Attention in high precision is written 'none', and its gradients are watched by nobody."""
    points = [getattr(attention, name).quantizer(point) for name in PRODUCTS for point in POINTS]
    if all(isinstance(q, Identity) for q in points):
        yield "attention: none of its products' operands is quantized; write 'none'"
    elif attention.smooth_keys and not isinstance(attention.scores.fprop.rhs, BlockQuantizer):
        yield "attention.smooth_keys: the keys have no block quantizer at attention.scores.fprop.rhs"
    elif attention.smooth_queries is not None and not isinstance(attention.scores.fprop.lhs, BlockQuantizer):
        yield "attention.smooth_queries: the queries have no block quantizer at attention.scores.fprop.lhs"
    if isinstance(recipe.schedule, NoiseSwitch):
        yield "schedule: noise_switch watches the gradients of linears, and attention's products would never switch"


def _unwatched(recipe: Recipe) -> bool:
    """Whether a recipe that quantizes has no block quantizer at G of dgrad, whose noise a schedule would watch."""
    return (recipe.quantizes or not recipe.layers) and not isinstance(recipe.dgrad.lhs, BlockQuantizer)
