"""Hugging Face models of many families, from configurations: what is quantized, and that they train as they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dse.errors import UserError
from dse.nn.bypass import bypassed
from dse.nn.coverage import coverage
from dse.nn.quantize import quantize_, quantized_layers, set_clock
from dse.recipes import RECIPES
from tests.quantizers import normal

T: Any = pytest.importorskip("transformers")

_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT = {**_SIZES, "vocab_size": 64, "max_position_embeddings": 64}
_LM = {**_TEXT, "num_key_value_heads": 2}
_TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_MIXTURE = {"num_experts_per_tok": 2, **_LM, **_TOKENS}
_MLA = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
_DEEPSEEK = {"n_routed_experts": 4, "moe_intermediate_size": 24, "n_group": 1, "topk_group": 1, "n_shared_experts": 1}

FAMILIES: dict[str, tuple[Callable[[], Any], float, int]] = {
    "gpt2": (lambda: T.GPT2LMHeadModel(T.GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=64, **_TOKENS)), 1, 8),
    "llama": (lambda: T.LlamaForCausalLM(T.LlamaConfig(**_LM, **_TOKENS)), 1, 14),
    "mistral": (lambda: T.MistralForCausalLM(T.MistralConfig(**_LM, **_TOKENS)), 1, 14),
    "qwen3": (lambda: T.Qwen3ForCausalLM(T.Qwen3Config(head_dim=8, **_LM, **_TOKENS)), 1, 14),
    "gemma3": (lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(head_dim=8, **_LM, **_TOKENS)), 1, 14),
    "mixtral": (lambda: T.MixtralForCausalLM(T.MixtralConfig(num_local_experts=4, **_MIXTURE)), 0.994, 24),
    "gpt_oss": (
        lambda: T.GptOssForCausalLM(T.GptOssConfig(num_local_experts=4, head_dim=8, **_MIXTURE)), 0.994, 24,
    ),
    "qwen3_moe": (
        lambda: T.Qwen3MoeForCausalLM(
            T.Qwen3MoeConfig(num_experts=4, moe_intermediate_size=24, head_dim=8, **_MIXTURE)
        ), 0.990, 24,
    ),
    "deepseek_v3": (
        lambda: T.DeepseekV3ForCausalLM(
            T.DeepseekV3Config(
                **{**_MIXTURE, "num_key_value_heads": 4}, **_MLA, **_DEEPSEEK, first_k_dense_replace=1
            )
        ), 0.994, 24,
    ),
    "t5": (
        lambda: T.T5ForConditionalGeneration(
            T.T5Config(d_model=32, d_ff=64, num_layers=1, num_heads=4, d_kv=8, vocab_size=64, decoder_start_token_id=0)
        ), 1, 16,
    ),
    "bert": (lambda: T.BertForMaskedLM(T.BertConfig(**_TEXT)), 1, 13),
    "vit": (
        lambda: T.ViTForImageClassification(
            T.ViTConfig(image_size=16, patch_size=4, num_labels=5, **_SIZES)
        ), 1, 14,
    ),
    "convnext": (
        lambda: T.ConvNextForImageClassification(
            T.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=5, image_size=32)
        ), 1, 31,
    ),
    "wav2vec2": (
        lambda: T.Wav2Vec2ForCTC(
            T.Wav2Vec2Config(
                **_SIZES, conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3), num_conv_pos_embeddings=8,
                num_conv_pos_embedding_groups=2, vocab_size=16, mask_time_prob=0.0, **_TOKENS,
            )
        ), 1, 17,
    ),
}  # fmt: skip
QUICK = ("gpt2", "gpt_oss", "vit")
every = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
HEADS = {"t5": "lm_head", "bert": "cls.predictions.decoder"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def made(name: str, recipe: str = "nvfp4") -> Any:
    """The family's model, its head over the vocabulary left out."""
    torch.manual_seed(0)
    model = FAMILIES[name][0]()
    head = HEADS.get(name, "lm_head" if hasattr(model, "lm_head") else None)
    return quantize_(model.train(), RECIPES[recipe], exempt=[head] if head else [])


def batch(name: str) -> dict[str, Tensor]:
    tokens = torch.arange(3 * 12).view(3, 12) * 7 % 61 + 3
    if name in ("vit", "convnext"):
        return {"pixel_values": normal(3, 3, *([16] * 2 if name == "vit" else [32] * 2)), "labels": torch.arange(3)}
    if name == "wav2vec2":
        return {"input_values": normal(3, 200), "labels": tokens[:, :4] % 13 + 3}
    return {"input_ids": tokens, "labels": tokens}


def gradients(model: Any, name: str) -> list[Tensor]:
    """Loss and gradients of one step; no dropout."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    set_clock(model, 1, 2)
    model.zero_grad()
    torch.manual_seed(0)
    loss = model(**batch(name)).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@every
def test_a_family_is_quantized_and_trains(name: str) -> None:
    """All of its layers but the head and routers, none is bypassed, each gets a gradient, and steps lower the loss."""
    model = made(name)
    _, share, layers = FAMILIES[name]
    head = HEADS.get(name, "lm_head")
    rows = [row for row in coverage(model).rows if row.flops and row.name != head]
    assert sum(r.weights for r in rows if r.recipe) / sum(r.weights for r in rows) == pytest.approx(share, abs=1e-3)
    assert {row.kind[-6:] for row in rows if not row.recipe} <= {"Router", "router"}
    assert len(quantized_layers(model)) == layers
    assert bypassed(model, **batch(name)) == {}
    first = gradients(model, name)
    missing = [n for n, p in model.named_parameters() if p.grad is None and p.dim() > 1]
    assert not [n for n in missing if "masked_spec" not in n]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(4):
        set_clock(model, 1, step)
        optimizer.zero_grad()
        loss = model(**batch(name)).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < first[0].item()


@every
def test_checkpointing_changes_nothing(name: str) -> None:
    """Gradients have the same bits, with stochastic rounding too."""
    model = made(name, "mxfp4_rht_sr")
    if not model.supports_gradient_checkpointing:
        pytest.skip("the model has no checkpointing")
    expected = gradients(model, name)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found = gradients(model, name)
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral", "vit"])
def test_a_compiled_model_has_the_numbers_of_the_eager_one(name: str) -> None:
    """The quantized layers run as they are; what lies between is compiled."""
    model = made(name)
    expected = gradients(model, name)
    torch._dynamo.reset()
    found = gradients(torch.compile(model, backend="aot_eager"), name)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_model_in_bf16_trains_its_experts() -> None:
    model = made("gpt_oss").to(torch.bfloat16)
    found = gradients(model, "gpt_oss")
    assert all(t.isfinite().all() for t in found)
    assert {t.dtype for t in found[1:]} == {torch.bfloat16}


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_unquantized_experts_are_those_of_every_implementation(name: str, implementation: str) -> None:
    torch.manual_seed(0)
    plain = FAMILIES[name][0]().eval()
    plain.set_experts_implementation(implementation)
    with torch.no_grad():
        expected = plain(**batch(name)).logits
        torch.manual_seed(0)
        ours = quantize_(FAMILIES[name][0]().eval(), RECIPES["fp32"])
        torch.testing.assert_close(ours(**batch(name)).logits, expected, rtol=1e-4, atol=1e-5)


def test_experts_of_an_unknown_layout_are_refused() -> None:
    """Llama 4's class does not say how its parameters lie."""
    sizes = {**_LM, "intermediate_size_mlp": 48, "num_local_experts": 4, "head_dim": 8}
    model = T.Llama4ForCausalLM(T.Llama4TextConfig(**sizes, **_TOKENS))
    with pytest.raises(UserError, match=r"2 layers of Llama4.*feed_forward\.experts \(2 times\) \(Llama4Text"):
        quantize_(model, RECIPES["nvfp4"])
