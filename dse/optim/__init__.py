"""Optimizers by their YAML name (``training.optimizer``), on the stacked parameters of a pack."""

from dse.errors import UserError, nearest
from dse.optim.adamw import AdamW
from dse.optim.base import Hyper, Optimizer
from dse.optim.layout import Layout
from dse.optim.moments import FIRST_MOMENTS, SECOND_MOMENTS
from dse.optim.muon import NVFP4_PRODUCTS, Muon
from dse.optim.sgd import SGD
from dse.optim.stable_spam import StableSpam
from dse.optim.stored_moments import StoredMoments

OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": AdamW(),
    "sgd": SGD(),
    "stable_spam": StableSpam(),
    "muon": Muon(),
    "muon_spectral": Muon(scale="spectral"),
    "muon_nvfp4": Muon(products=NVFP4_PRODUCTS, iterations=8, margin=1.5),
}


def make_optimizer(name: str, first_moment: str = "fp32", second_moment: str = "fp32") -> Optimizer:
    """The optimizer of these names, with its moments stored in these formats.

    Raises UserError for an unknown name, and for a format of a moment that the optimizer does not have.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"training.optimizer: unknown optimizer {name!r}{nearest(name, OPTIMIZERS)}")
    optimizer, formats = OPTIMIZERS[name], []
    kinds = {kind for kind, _ in optimizer.moments(Layout((), (), (), 0)).values()}
    for kind, chosen, known in (("first", first_moment, FIRST_MOMENTS), ("second", second_moment, SECOND_MOMENTS)):
        if chosen not in known:
            raise UserError(f"training.{kind}_moment: unknown format {chosen!r}{nearest(chosen, known)}")
        found = known[chosen]
        if found is not None and kind not in kinds:
            raise UserError(f"training.{kind}_moment: {name} has no {kind} moment; leave it at 'fp32'")
        formats += [] if found is None else [(kind, found)]
    return StoredMoments(optimizer, tuple(formats)) if formats else optimizer


__all__ = [
    "FIRST_MOMENTS",
    "OPTIMIZERS",
    "SECOND_MOMENTS",
    "SGD",
    "AdamW",
    "Hyper",
    "Muon",
    "Optimizer",
    "StableSpam",
    "StoredMoments",
    "make_optimizer",
]
