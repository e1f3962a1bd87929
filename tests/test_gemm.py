"""GEMMs: the rotation cancels, operands are what their quantizers make of them, tensor scales sit in the epilogue."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from dse.errors import OptionError
from dse.numerics.block import BlockQuantizer
from dse.numerics.formats import E2M1, E8M0, UE4M3
from dse.numerics.gemm import Gemm
from dse.numerics.quantizer import Quantized
from dse.numerics.random import Key, key
from dse.numerics.techniques.rotations import Hadamard
from dse.numerics.techniques.rounding import Stochastic
from tests.quantizers import MXFP4, NVFP4, normal

ROTATIONS = [Hadamard(16, "none"), Hadamard(16, "fixed"), Hadamard(32, "random"), Hadamard(128), Hadamard(2)]


@pytest.mark.parametrize("size", [2, 16, 32, 128, 1024])
@pytest.mark.parametrize("signs", ["none", "fixed", "random"])
def test_a_rotation_is_orthogonal(size: int, signs: str) -> None:
    r = Hadamard(size, signs).matrix(torch.empty(0, dtype=torch.float64), key(seed=4))
    assert (r @ r.mT - torch.eye(size, dtype=torch.float64)).abs().max() < 1e-13
    assert torch.allclose(r.abs(), torch.tensor(size**-0.5, dtype=torch.float64))


def test_the_hadamard_matrix_is_sylvesters_with_signs_on_the_input_side() -> None:
    """R = diag(S) H: the sign of each *element* flips before it is mixed (a flip after mixing would do nothing)."""
    like = torch.empty(0, dtype=torch.float64)
    h = Hadamard(16, "none").matrix(like, None) * 4
    assert all(int(h[i, j]) == (-1) ** (i & j).bit_count() for i in range(16) for j in range(16))
    signs = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]  # TransformerEngine's, arXiv 2509.25149
    assert torch.equal(Hadamard(16, "fixed").matrix(like, None) * 4, torch.tensor(signs)[:, None] * h)
    drawn = Hadamard(16, "random").matrix(like, key(7)) * 4 / h
    assert torch.equal(drawn, drawn[:, :1].expand(-1, 16))


def test_random_signs_belong_to_the_gemm_layer_and_step() -> None:
    g, like = Gemm(rotation=Hadamard(128)), torch.empty(0)
    keys = [key(), key(seed=1), key(step=1), key(layer=1), key(point=2), key(point=4)]
    drawn = [g.basis(like, k) for k in keys]
    assert torch.equal(drawn[0], g.basis(like, key()))
    for i, a in enumerate(drawn):
        for b in drawn[i + 1 :]:
            assert not torch.equal(a, b)


@pytest.mark.parametrize("rotation", ROTATIONS, ids=str)
@pytest.mark.parametrize("shape", [(5, 7, 64), (1, 1, 1), (3, 4, 17), (8, 2, 130), (2, 9, 300)])
def test_a_rotation_without_quantization_changes_rounding_only(rotation: Hadamard, shape: tuple[int, ...]) -> None:
    """(A R)(B R)^T = A B^T, for sizes that do not divide too: 1e-13 in float64, 1e-6 in float32, of |A| |B|."""
    m, n, k = shape
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        a, b = normal(m, k).to(dtype), normal(n, k, seed=1).to(dtype)
        error = Gemm(rotation=rotation)(a, b, key(point=2)) - a @ b.mT
        scale = a.norm(dim=1)[:, None] * b.norm(dim=1)
        assert bool((error.abs() <= tolerance * scale).all())


@pytest.mark.parametrize("columns", [16, 20, 48, 100])
def test_quantization_happens_in_the_rotated_space(columns: int) -> None:
    """Operands are padded to a multiple of the rotation, rotated, then quantized; by hand here."""
    g = Gemm(MXFP4, NVFP4, Hadamard(16, "fixed"))
    a, b = normal(6, columns), normal(5, columns, seed=1)
    wide = -(-columns // 16) * 16
    hadamard = Hadamard(16, "fixed")
    signs = hadamard.basis(a, None)

    def turned(x: Tensor) -> Tensor:
        return hadamard.turn(pad(x, (0, wide - columns)), signs)

    qa, qb = g.operands(a, b, key())
    assert qa.values.shape == (6, wide)  # blocks pad by themselves, and take their padding away again
    assert torch.equal(qa.values, MXFP4(turned(a)).values)
    blocks = -(-wide // 32) * 32
    assert torch.equal(qa.values, MXFP4(pad(turned(a), (0, blocks - wide))).values[:, :wide])
    assert torch.equal(qb.dequantize(), NVFP4.dequantized(turned(b)))
    assert torch.equal(g(a, b, key()), Gemm().contract(qa, qb))
    dense = pad(a, (0, wide - columns)).view(6, -1, 16) @ hadamard.matrix(a, None)
    torch.testing.assert_close(turned(a), dense.view(6, wide), rtol=0, atol=1e-6)
    torch.testing.assert_close(g.back(turned(a), signs)[:, :columns], a, rtol=0, atol=1e-6)


def test_blocks_of_different_sizes_meet_in_one_gemm() -> None:
    a, b = normal(6, 50), normal(5, 50, seed=1)
    y = Gemm(MXFP4, BlockQuantizer(E2M1, E8M0, 16))(a, b, key())
    assert torch.equal(y, MXFP4.dequantized(a) @ BlockQuantizer(E2M1, E8M0, 16).dequantized(b).mT)


def test_left_and_right_operands_draw_at_their_own_points() -> None:
    q = BlockQuantizer(E2M1, UE4M3, 16, rounding=Stochastic())
    a = normal(8, 64)
    left, right = Gemm(q, q).operands(a, a, key(point=2))
    assert torch.equal(left.values, q(a, key(point=2)).values)
    assert torch.equal(right.values, q(a, key(point=3)).values)
    assert not torch.equal(left.values, right.values)


def test_tensor_scales_are_applied_to_the_output() -> None:
    """The operands stay exact in BF16; y = (A B^T) * (alpha_a alpha_b)."""
    a, b = normal(6, 64), normal(5, 64, seed=1)
    qa, qb = NVFP4(a), NVFP4(b)
    assert qa.alpha is not None
    assert qb.alpha is not None
    product = qa.values @ qb.values.mT
    assert torch.equal(Gemm().contract(qa, qb), product * (qa.alpha * qb.alpha))
    assert torch.equal(Gemm().contract(qa, Quantized(b)), (qa.values @ b.mT) * qa.alpha)
    assert torch.equal(Gemm().contract(Quantized(a), qb), (a @ qb.values.mT) * qb.alpha)
    assert torch.allclose(Gemm().contract(qa, qb), qa.dequantize() @ qb.dequantize().mT, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rotation", [None, Hadamard(16), Hadamard(16, "fixed")], ids=str)
def test_a_pack_of_gemms_equals_its_members_alone(rotation: Hadamard | None) -> None:
    """The quantized operands are equal bit for bit (a batched product may add in another order)."""
    q = replace(NVFP4, rounding=Stochastic())
    g = Gemm(q, NVFP4, rotation)
    a, b = normal(3, 6, 50), normal(3, 5, 50, seed=1)
    clock = torch.tensor([[0, 1], [1, 1], [0, 2]])
    packed = g.operands(a, b, Key(clock, 2, 4))
    y = g(a, b, Key(clock, 2, 4))
    for i in range(3):
        alone = g.operands(a[i], b[i], Key(clock[i], 2, 4))
        for one, many in zip(alone, packed, strict=True):
            assert torch.equal(one.values, many.values[i])
        assert torch.allclose(y[i], g(a[i], b[i], Key(clock[i], 2, 4)), rtol=1e-5, atol=1e-5)


def test_empty_gemms() -> None:
    for rotation in (None, Hadamard(16)):
        g = Gemm(NVFP4, MXFP4, rotation)
        assert g(torch.empty(0, 32), normal(4, 32), key()).shape == (0, 4)
        assert not g(torch.empty(3, 0), torch.empty(4, 0), key()).any()


def test_options_out_of_range() -> None:
    for size in (0, 1, 3, 48, 2048):
        with pytest.raises(OptionError, match="power of two"):
            Hadamard(size)
    with pytest.raises(OptionError, match="did you mean 'random'"):
        Hadamard(16, "randon")
    with pytest.raises(ValueError, match="Key"):
        Hadamard(16).matrix(torch.empty(0), None)


@pytest.mark.parametrize("signs", ["none", "fixed", "random"])
@pytest.mark.parametrize("size", [2, 16, 64])
def test_a_rotation_adds_in_the_order_of_the_fast_transform(size: int, signs: str) -> None:
    """Bit for bit: signs, butterflies 1, 2, 4 ... apart, one multiplication by fp32(1 / sqrt(size)); its inverse."""
    rotation, x = Hadamard(size, signs), normal(3, 5, 2 * size)
    basis = rotation.basis(x, Key(torch.tensor([[7, 0], [8, 0], [7, 1]]), 1, 66))
    before = x.clone()
    found = rotation.turn(x, basis)
    assert torch.equal(x, before)
    y = x.view(3, 5, 2, size) * (basis if basis.dim() == 1 else basis[:, None, None, :])
    h = 1
    while h < size:
        columns: list[Tensor] = [y[..., i] for i in range(size)]
        for i in range(size):
            if not i & h:
                columns[i], columns[i | h] = columns[i] + columns[i | h], columns[i] - columns[i | h]
        y, h = torch.stack(columns, -1), 2 * h
    y = y * torch.tensor(size**-0.5, dtype=torch.float32)
    assert torch.equal(found, y.flatten(-2))
    torch.testing.assert_close(rotation.back(found, basis), x, rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    assert torch.equal(rotation.turn(x, basis).detach(), found)
