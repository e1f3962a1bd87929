"""Formats are what their published codebooks say."""

import pytest
import torch

from dse.numerics.formats import BF16, E2M1, E4M3, E5M2, E8M0, ELEMENTS, FP32, SCALES, UE4M3, UE5M3, Format


def test_e2m1_codebook() -> None:
    assert E2M1.grid.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert (E2M1.bits, E2M1.emin, E2M1.emax) == (4, 0, 2)


def test_ue5m3_codebook() -> None:
    """arXiv 2609.02846, eq. 3: the top exponent is reserved, which leaves 248 of 256 codes."""
    grid = UE5M3.grid
    assert len(grid) == 248
    assert (grid[-1], grid[1], grid[8]) == (61440.0, 2.0**-17, 2.0**-14)
    assert torch.equal(grid[:9], torch.arange(9, dtype=torch.float64) * 2.0**-17)  # even steps below the normals
    assert bool((grid.diff() > 0).all())
    assert (UE5M3.bits, UE5M3.signed) == (8, False)


@pytest.mark.parametrize(
    ("fmt", "codes", "bits", "smallest", "emin", "emax"),
    [
        (E4M3, 127, 8, 2.0**-9, -6, 8),  # code 127 is NaN
        (E5M2, 124, 8, 2.0**-16, -14, 15),  # 124 is infinity, 125-127 are NaN
        (UE4M3, 127, 7, 2.0**-9, -6, 8),
        (E8M0, 255, 8, 2.0**-127, -127, 127),  # 255 is NaN; there is no zero
        (BF16, 0x7F80, 16, 2.0**-133, -126, 127),
    ],
    ids=lambda x: x.name if isinstance(x, Format) else "",
)
def test_codebooks(fmt: Format, codes: int, bits: int, smallest: float, emin: int, emax: int) -> None:
    assert len(fmt.grid) == codes
    assert (fmt.bits, fmt.smallest, fmt.emin, fmt.emax) == (bits, smallest, emin, emax)


def test_fp32_is_binary32() -> None:
    info = torch.finfo(torch.float32)
    assert (FP32.max, FP32.smallest, 2.0**FP32.emin) == (info.max, 2.0**-149, info.tiny)
    with pytest.raises(ValueError, match="too many codes"):
        _ = FP32.grid


def test_every_format_has_a_name_a_source_and_a_largest_value_on_its_grid() -> None:
    for name, fmt in {**ELEMENTS, **SCALES}.items():
        assert fmt.name == name
        assert fmt.source
        significand = fmt.max / 2.0 ** (fmt.emax - fmt.man)
        assert significand == int(significand) < 2 ** (fmt.man + 1)
