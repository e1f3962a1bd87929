"""Keeps ``nn.TransformerEncoder`` and its layers from evaluating by a fused kernel that reads the weights itself."""

from __future__ import annotations

from torch import nn

from dse.nn.kinds import is_quantized


def keep_from_fusing(model: nn.Module) -> None:
    """For every encoder layer with a quantized layer inside, and every encoder around one: by their own attributes.

    The layer asks ``activation_relu_or_gelu`` before it calls ``torch._transformer_encoder_layer_fwd``, and nowhere
    else; the encoder asks ``use_nested_tensor`` before it makes the input nested for that kernel.
    """
    for module in model.modules():
        if not isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerEncoder)):
            continue
        if not any(is_quantized(m) for m in module.modules()):
            continue
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        else:
            module.activation_relu_or_gelu = 0


__all__ = ["keep_from_fusing"]
