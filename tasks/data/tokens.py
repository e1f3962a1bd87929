"""Tokenizers: UTF-8 bytes, and byte-pair encoding that is learned from the text (Sennrich et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dse.errors import UserError

KINDS = ("characters", "bytes", "bpe")
Encoder = Callable[[Sequence[str]], Tensor]


def coder(kind: str, vocabulary: int, documents: Sequence[str]) -> tuple[Encoder, int]:
    """What turns documents into one sequence of token numbers, and how many tokens there are.

    `documents`: what 'bpe' learns its `vocabulary` tokens from (fewer, if the text does not give as many). `UserError`
    where it cannot be learned for want of the package `tokenizers`.
    """
    return (_bytes, 256) if kind == "bytes" else _pairs(vocabulary, documents)


def _bytes(documents: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.frombuffer("".join(documents).encode(), np.uint8).copy())


def _pairs(vocabulary: int, documents: Sequence[str]) -> tuple[Encoder, int]:
    try:
        import tokenizers  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise UserError(
            "lm: tokens 'bpe' needs the package tokenizers (pip install tokenizers); 'bytes' does not"
        ) from None
    learned: Any = tokenizers.Tokenizer(tokenizers.models.BPE())
    learned.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    every = tokenizers.pre_tokenizers.ByteLevel.alphabet()  # all bytes, so that no text is unknown
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=every, show_progress=False)
    learned.train_from_iterator(documents, trainer)

    def encode(texts: Sequence[str]) -> Tensor:
        numbers = [torch.tensor(one.ids, dtype=torch.int32) for one in learned.encode_batch(list(texts))]
        return torch.cat([torch.empty(0, dtype=torch.int32), *numbers])

    return encode, learned.get_vocab_size()
