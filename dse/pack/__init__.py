"""Packs: many trials of one task, with different recipes, seeds and learning rates, trained as one tensor program."""

from dse.pack.linear import PackedConv2d, PackedLinear
from dse.pack.pack import Pack
from dse.pack.segmentation import partition
from dse.pack.segments import Segment

__all__ = ["Pack", "PackedConv2d", "PackedLinear", "Segment", "partition"]
