"""Fréchet distance between generated and real images, on the features of a classifier trained on the same data.

The distance is that of two Gaussians fitted to the classifier's last hidden layer (arXiv 1706.08500, with a network of
the data's own instead of Inception). It falls with the number of images, so that only equal numbers can be compared,
and it says nothing across data sets. The classifier depends on the data alone: it is trained on the CPU in FP32 from a
fixed seed, once per process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dse.kernels.sqrt import sqrt
from dse.tasks.base import fingerprint, to_device
from dse.tasks.data.images import Images
from dse.tasks.nets.conv import Cnn
from dse.tasks.streams import generator

FEATURES = 32
REAL = 4096  # images at most
_STEPS, _BATCH, _RATE = 300, 64, 2e-3
_known: dict[str, FeatureClassifier] = {}


@dataclass(frozen=True)
class FeatureClassifier:
    """A trained classifier; `real`: mean and covariance of its features on real images; `accuracy` on held-out ones."""

    model: Cnn
    real: tuple[Tensor, Tensor]
    accuracy: float

    def features(self, x: Tensor) -> Tensor:
        """Standardized images [N, ...] -> [N, FEATURES] float64."""
        with torch.no_grad():
            return torch.cat([self.model.features(part) for part in x.split(256)]).double()

    def distance(self, x: Tensor) -> float:
        """The Fréchet distance between images x [N, ...] and the real ones; not finite where x is not."""
        found = self.features(x.float().cpu())
        if not found.isfinite().all():
            return float("nan")
        return frechet(moments(found), self.real)


def apart(a: Tensor, b: Tensor) -> float:
    """How far two models' samples from the same noise are apart: the root mean square difference of their pixels.

    In deviations of real pixels: 0 for the same images, about the root of 2 for unrelated ones.
    """
    return float((a.double() - b.double()).square().mean().sqrt())


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] and covariance [F, F] of features [N, F]."""
    return features.mean(0), features.T.cov()


def frechet(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64."""
    (m, c), (n, d) = a, b
    values, vectors = torch.linalg.eigh(c)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ d @ root).clamp(min=0).sqrt().sum()
    return float((m - n).square().sum() + c.trace() + d.trace() - 2 * cross)


def judge(data: Images) -> FeatureClassifier:
    """The classifier of these images, trained when it is first asked for."""
    data = to_device(data, "cpu")
    name = fingerprint(data)
    if name not in _known:
        _known[name] = _trained(data)
    return _known[name]


def _trained(data: Images) -> FeatureClassifier:
    random = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = Cnn(data.x.shape[-1], data.channels, 16, (FEATURES,), data.classes)
    torch.random.set_rng_state(random)
    weights = list(model.parameters())
    state = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    order = torch.randint(len(data.x), (_STEPS, _BATCH), generator=generator("judge"))
    for step, rows in enumerate(order):
        loss = F.cross_entropy(model(data.standard(data.x[rows])), data.y[rows])
        gradients: Any = torch.autograd.grad(loss, weights)
        for w, g, (m, v) in zip(weights, gradients, state, strict=True):  # Adam; torch.optim takes seconds to import
            m.lerp_(g, 0.1)
            v.lerp_(g.square(), 0.01)
            scale = (1 - 0.99 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
            w.data.addcdiv_(m, sqrt(v) + 1e-8, value=-_RATE * scale * (1 - step / _STEPS))
    made = FeatureClassifier(model, (torch.zeros(0), torch.zeros(0)), 0.0)
    test = data.standard(data.test_x[:REAL])
    with torch.no_grad():
        right = torch.cat([model(part).argmax(-1) for part in test.split(256)]) == data.test_y[:REAL]
    return FeatureClassifier(model, moments(made.features(data.standard(data.x[:REAL]))), right.float().mean().item())
