"""The compiled peers: plain torch's NVFP4 has the numbers of this project's, and trains as the recipe does."""

from __future__ import annotations

import copy

import pytest
import torch

from dse.bench import fake_quantized as fake
from dse.bench.compiled import CompiledTrial
from dse.bench.composed import composed
from dse.bench.models import COMPARED
from dse.bench.timed_packs import Running, trials
from dse.recipes import RECIPES
from dse.tasks.nets.llama import Llama


def operand(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)).bfloat16()


def test_blocks_and_tiles_are_those_of_the_recipe() -> None:
    x, gemm = operand(64, 96), RECIPES["nvfp4"].fprop
    for found, quantizer in ((fake.rows(x), gemm.lhs), (fake.tiles(x), gemm.rhs)):
        wanted = quantizer(x.float(), None).dequantize().bfloat16()
        differ = (found != wanted).float().mean()
        assert differ < 0.002, "ties alone, where FP32 products are rounded in another order"
    assert torch.equal(fake.columns(x, torch.eye(16).bfloat16()), fake.rows(x.mT.contiguous()).mT)


def test_the_rotation_cancels_in_the_weight_gradient() -> None:
    h = fake.hadamard()
    assert torch.equal(h.float() @ h.float().mT, torch.eye(16))
    g, x = operand(512, 32), operand(512, 48)
    dw = fake.columns(g, h).float().mT @ fake.columns(x, h).float()
    exact = g.float().mT @ x.float()
    assert (dw - exact).norm() < 0.15 * exact.norm()


def test_stochastic_rounding_has_no_bias() -> None:
    torch.manual_seed(5)
    x = operand(16, 64)
    draws = torch.stack([fake.rows(x, stochastic=True).float() for _ in range(400)])
    size = x.float().abs()
    inside = size < 0.8 * size.unflatten(-1, (-1, 16)).amax(-1, keepdim=True).expand(-1, -1, 16).flatten(-2)
    assert ((draws.mean(0) - x.float())[inside].abs() / size.amax()).max() < 0.03, "where nothing saturates"
    assert (draws[0] != draws[1]).any()


def test_a_composed_model_is_the_same_function() -> None:
    torch.manual_seed(1)
    model = Llama(11, 8, 32, 2, 2, 64, qk_norm=True)
    tokens = torch.randint(11, (3, 8))
    wanted = model(tokens)
    made = composed(copy.deepcopy(model))
    assert sum(isinstance(module, torch.nn.Linear) for module in made.modules()) == 2 * 4 + 1
    torch.testing.assert_close(made(tokens), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("fp4", [True, False])
def test_a_compiled_trial_trains_as_the_pack_does(fp4: bool, backend: str) -> None:
    """The same initialization and batches; a graph break would raise."""
    subject = COMPARED["gpt128"](True)
    peer = CompiledTrial(subject, "cpu", fp4, backend=backend)
    quantized = [module for module in peer.model.modules() if isinstance(module, fake.Nvfp4Linear)]
    assert len(quantized) == 4 * fp4
    seen = list[torch.dtype]()
    first_block = peer.model.get_submodule("blocks.0")
    hook = first_block.register_forward_pre_hook(lambda module, x: seen.append(x[0].dtype))
    peer._loss(*peer._batches, peer._count)
    hook.remove()
    assert seen == [torch.bfloat16], "the residual stream"
    pack = Running(trials(subject, 1, ("nvfp4" if fp4 else "bf16",)), "cpu")
    for _ in range(12):
        peer.step()
        pack.step()
    found, wanted, first = float(peer.loss), float(pack.program.log[11, 0]), float(pack.program.log[0, 0])
    assert abs(found - wanted) < (0.2 if fp4 else 0.03) * (first - wanted)
