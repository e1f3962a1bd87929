"""Published training systems and where each stands here: its recipes, what of it other options are, what is left out.

A system without recipes is one that is not a recipe, and ``left_out`` says why. X = activations, W = weights, G =
gradients. docs/systems.md is made from this list; a test holds every recipe to a place in it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A published system.

    - ``recipes``: names in the gallery; ``options``: settings of a task or a training that are part of it;
    - ``left_out``: what of it is not here, and why.
    """

    name: str
    source: str
    recipes: tuple[str, ...] = ()
    options: str = ""
    left_out: str = ""


SYSTEMS = (
    System("Baselines", "-", ("bf16", "fp32")),
    System(
        "MX formats, direct cast and training",
        "OCP MX 1.0; arXiv 2310.10537 (microxcaling)",
        ("mxfp4", "mxfp4_away", "mxfp4_weights", "mxfp6", "mxfp6_e2m3", "mxfp8_ocp", "mxint8"),
        left_out="vector operations (norms, softmax) that microxcaling rounds one by one to BF16: they stay in FP32",
    ),
    System("MXFP8 pretraining", "arXiv 2506.08027 (Mishra et al.); TransformerEngine", ("mxfp8",)),
    System(
        "FP4 with DGE and OCC",
        "arXiv 2501.17116 (Wang et al.)",
        ("wang_fp4",),
        "Adam's moments in FP8 and FP16: training.first_moment: fp8, training.second_moment: fp16",
        "FP8 communication of gradients and FP16 master weights: nothing is communicated here, and masters are FP32",
    ),
    System(
        "Module-wise FP4 and FP8",
        "arXiv 2502.11458 (Zhou et al.)",
        ("zhou_modulewise", "zhou_modulewise_fp8"),
        left_out="norms and activation functions in FP16, which are FP32 here (BF16 with training.activations: bf16)",
    ),
    System(
        "Training LLMs with MXFP4",
        "arXiv 2502.20586 (Tseng et al.)",
        ("tseng_mxfp4", "mxfp4_rht_sr"),
        left_out="its variant with an FP8 forward pass, which a recipe of a sweep's own says",
    ),
    System("Quartet", "arXiv 2505.14669", ("quartet",)),
    System(
        "Quartet II",
        "arXiv 2601.22813",
        ("quartet2", "quartet2_4over6", "quartet2_h32", "quartet2_sr"),
        left_out="tensor scales that are one step late, nearly as good by the paper: tensor_scale: delayed says it",
    ),
    System("TetraJet", "arXiv 2502.20853", ("tetrajet", "tetrajet_q_ema", "tetrajet_q_ramping")),
    System("TetraJet-v2", "arXiv 2510.27527", ("tetrajet2_base", "tetrajet2", "tetrajet2_outcontrol")),
    System("FP4 All the Way", "arXiv 2505.19115", ("fp4_all_the_way", "fp4_all_the_way_qaf")),
    System(
        "NVFP4 pretraining",
        "arXiv 2509.25149; TransformerEngine",
        ("nvfp4", "nvfp4_plain", "nvfp4_last15"),
        left_out="the first two blocks of 62 in BF16: exempt: {first: N} or a rule of `layers` says it for a model",
    ),
    System("Four Over Six", "arXiv 2512.02010; TransformerEngine", ("four_over_six", "nvfp4_4over6")),
    System("IF4", "arXiv 2603.28765", ("if4",)),
    System("UFP4", "arXiv 2606.20381", ("ufp4",)),
    System(
        "UE5M3 scales",
        "arXiv 2609.02846",
        ("ue5m3", "ue5m3_current", "ue5m3_b32"),
        left_out="target 2048 for G of the last four down projections, which a rule of `layers` says, and the tensor "
        "cores' sums, which `*.accumulation` says",
    ),
    System("Graphcore's combinations", "arXiv 2509.17791", ("graphcore_ue5m3", "graphcore_e8m0", "graphcore_e4m3")),
    System("AMD, native MXFP4", "arXiv 2605.09825", ("amd_mxfp4",)),
    System(
        "AMD ALTO",
        "github.com/AMD-AGI/ALTO",
        ("amdfp4", "amdfp4_one_level", "mxfp4_macro128"),
        "its de-oscillation: weights: {osci_reset: {every: 200, track: 200, ratio: 4, start: 1800}}",
        "pruning and post-training quantization, which are no training numerics; its low-rank branch, whose factors "
        "are parameters of their own, trained in FP4: another model (decomposition: low_rank splits W itself)",
    ),
    System(
        "MLPerf fine-tuning in MXFP4, healed in FP8",
        "AMD-AGI/Primus #877",
        ("mlperf_mxfp4_healing",),
        left_out="LoRA: all weights are trained",
    ),
    System("Format-aware fusion", "arXiv 2610.00053", ("fusion_mxfp4", "fusion_mxfp4_h32", "fusion_nvfp4")),
    System("HiF4", "arXiv 2602.11287, 2604.08826", ("hif4",)),
    System("MixFP4", "arXiv 2605.31035", ("mixfp4",)),
    System("RaZeR", "arXiv 2501.04052", ("razer",)),
    System("Per-token NVFP4", "TransformerEngine #2931, #3206, #3324", ("per_token_nvfp4", "per_token_nvfp4_backward")),
    System("torchao and torchtitan, DeepSeek-V3", "pytorch/ao #4798, torchtitan #4821", ("torchao_dsv3",)),
    System("Nemotron 3 Super", "arXiv 2604.12374", ("nemotron3_super",)),
    System("Averis", "arXiv 2603.10444", ("averis", "nvfp4_averis")),
    System(
        "CHON",
        "arXiv 2602.02047",
        ("chon",),
        left_out="the output projection of linear attention in BF16: no task has linear attention",
    ),
    System("SageBwd", "arXiv 2505.11594, 2603.02170", ("sagebwd",)),
    System(
        "SageAttention3",
        "arXiv 2505.11594",
        ("sageattention3",),
        "P divided by its unrounded scale, as the released kernel does: attention.outputs.X.convention; after "
        "training: post: rtn",
        "zero padding of the tokens to whole tiles, which enters the means of the released kernel's last tile",
    ),
    System("Attn-QAT", "arXiv 2603.00040", ("attn_qat",)),
    System(
        "Full-Stack FP4",
        "arXiv 2607.04422",
        ("full_stack_attention", "full_stack_fp4"),
        "Adam's second moment in FP4: training.second_moment: nvfp4_hadamard; Newton-Schulz products in NVFP4: "
        "training.optimizer: muon_nvfp4",
        "the rank of the linears' BF16 branch was not to be had: it is ours",
    ),
    System("FP4-FA4", "github.com/MrHuff/fp4-fa4", ("fp4_fa4",)),
    System(
        "MXFP4 with 2-D blocks, truncation-free scales and stochastic rounding",
        "arXiv 2607.24953",
        options="tile: 32, scale_rounding: up, rounding: stochastic and MXFP8 for Q K^T are options of a sweep",
        left_out="a recipe: which operands have which was not to be had",
    ),
    System(
        "QAD",
        "arXiv 2601.20088; NVIDIA Model-Optimizer",
        options="training.distillation: 1 beside start: bf16, with any recipe",
    ),
    System(
        "Muon",
        "kellerjordan.github.io/posts/muon; arXiv 2502.16982; Infatoshi/nvfp4-pretrain",
        options="training.optimizer: muon, muon_spectral or muon_nvfp4, with any recipe",
    ),
    System(
        "DeepSeek-V4",
        "DeepSeek-V4 technical report",
        options="its SwiGLU clamp is lm: {swiglu_limit: 10}",
        left_out="MXFP4 quantization-aware training of routed experts late in the training: no task here has experts; "
        "for a model of one's own a rule of `layers` says it, `kind: expert`",
    ),
    System(
        "Stable-SPAM",
        "arXiv 2502.17055",
        options="training.optimizer: stable_spam, with any recipe",
        left_out="its FP4 mode (E1M2, groups of 256, the two largest of a group kept): no outlier technique keeps a "
        "number of elements of each group",
    ),
    System(
        "nGPT in NVFP4",
        "arXiv 2605.06067",
        left_out="it is a model, with weights and hidden states of unit norm, in place of numerics: no task has it",
    ),
    System(
        "HALO",
        "arXiv 2501.02625",
        left_out="its rotations of G along the tokens, undone in dX: rotations here act along the contraction axis, "
        "where they cancel",
    ),
    System(
        "LUQ, LSS, Jetfire",
        "arXiv 2112.10769, 2306.11987, 2403.12422",
        left_out="logarithmic gradients, leverage-score sampling and a data flow in INT8: Quartet's Table 3 has them "
        "behind it or diverging",
    ),
)

__all__ = ["SYSTEMS", "System"]
