"""Systems whose numerics differ from layer to layer: NVFP4 beside MXFP8 and BF16.

``layers`` are rules of which the first that speaks of a layer decides; those about kinds of layers that many models
lack are optional. Y = Q(X) Q(W)^T in each, with Q the recipe's of that layer.

- ``nvfp4_last15``: the last 15 % of the blocks, rounded up, in BF16 (layers 27 to 31 of 32); the head, BF16 there too,
  is what this project's tasks exempt.
- ``torchao_dsv3``: attention's projections in MXFP8, feed-forward layers and experts in NVFP4, the rest in BF16.
- ``nemotron3_super``: last 15 % of the network, latent projections, multi-token prediction and attention's projections
  in BF16, Mamba's output projection in MXFP8, all else in NVFP4. Embeddings, BF16 there, are not quantized here. The
  name patterns of latent projections, multi-token prediction and Mamba's output are this project's guess.
"""

from dataclasses import replace

from dse.numerics.layer_choice import Which
from dse.numerics.recipe import Rule
from dse.recipes.bf16 import BF16
from dse.recipes.mxfp8 import MXFP8
from dse.recipes.nvfp4 import NVFP4

NVFP4_LAST15 = replace(
    NVFP4,
    name="nvfp4_last15",
    summary="NVFP4 with the last 15 % of the blocks in BF16",
    source="torchao and torchtitan, NVFP4 training guides; arXiv 2509.25149",
    layers=(Rule(Which(last_share=0.15), BF16, label="end"),),
)

TORCHAO_DSV3 = replace(
    BF16,
    name="torchao_dsv3",
    summary="MXFP8 attention projections, NVFP4 feed-forward layers and experts, BF16 elsewhere",
    source="pytorch/ao #4798, pytorch/torchtitan #4821 (DeepSeek-V3)",
    layers=(
        Rule(Which(kinds=("attention",)), MXFP8, optional=True),
        Rule(Which(kinds=("ffn",)), NVFP4, optional=True),
    ),
)

NEMOTRON3_SUPER = replace(
    NVFP4,
    name="nemotron3_super",
    summary="NVFP4; last 15 %, attention and latent projections in BF16; Mamba's output projection in MXFP8",
    source="arXiv 2604.12374 (NVIDIA, Nemotron 3 Super)",
    layers=(
        Rule(Which(last_share=0.15), BF16, label="end"),
        Rule(Which(names=("*latent*", "*mtp*")), BF16, optional=True, label="latent"),
        Rule(Which(kinds=("attention",)), BF16, optional=True),
        Rule(Which(kinds=("mamba",), names=("*out_proj",)), MXFP8, optional=True, label="mamba_out"),
    ),
)
