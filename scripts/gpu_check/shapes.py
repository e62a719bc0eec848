"""Checkpoints of random weights with the shapes of real models, a tokenizer of bytes, and rows of known length.

`python -m scripts.gpu_check.shapes JOB.json` writes them. Nothing is downloaded: memory, time and the exactness of
numbers depend on a model's shape, and not on what it has learned.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.utils import logging as transformers_logging

from scripts.common.chat import ChatContract, write_contract
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, write_json, write_jsonl
from scripts.common.records import Record, write_steps
from scripts.gpu_check.findings import Findings, run_job
from scripts.train.packing import encode

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# class, width, inner width, layers, heads, those of keys and values, a head's width, vocabulary, head = embedding
SHAPES: dict[str, tuple[type, int, int, int, int, int, int, int, bool]] = {
    "tiny": (LlamaConfig, 64, 128, 2, 4, 2, 16, 512, True),
    "smollm2-135m": (LlamaConfig, 576, 1536, 30, 9, 3, 64, 49152, True),
    "qwen2.5-1.5b": (Qwen2Config, 1536, 8960, 28, 12, 2, 128, 151936, True),
    "llama-3.2-3b": (LlamaConfig, 3072, 8192, 28, 24, 8, 128, 128256, True),
    "qwen2.5-7b": (Qwen2Config, 3584, 18944, 28, 28, 4, 128, 152064, False),
    "llama-3.1-70b": (LlamaConfig, 8192, 28672, 80, 64, 8, 128, 128256, False),
}


def config_of(shape: str) -> Any:
    """Return the transformers config of a shape in SHAPES."""
    if shape not in SHAPES:
        raise GradusError(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    kind, width, inner, layers, heads, groups, head, vocabulary, tied = SHAPES[shape]
    return kind(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        head_dim=head,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def write_base(shape: str, folder: str | Path, device: str = "cpu") -> None:
    """Write a checkpoint of random bf16 weights; the same weights each time on the same kind of device."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    with atomic_path(folder) as part:
        part.mkdir()
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        raw = Tokenizer(models.BPE({token: n for n, token in enumerate(SPECIAL + letters)}, []))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        raw.add_special_tokens(SPECIAL)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=SPECIAL[2], pad_token=SPECIAL[0])
        tokenizer.chat_template = CHATML
        tokenizer.save_pretrained(part)
        torch.manual_seed(1)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config_of(shape), dtype=torch.bfloat16)
        model.save_pretrained(part, max_shard_size="5GB")
        write_json(part / "base.json", {"source": f"random weights in the shape of {shape}"})


def contract() -> ChatContract:
    """Return the chat contract that goes with `write_base`."""
    return ChatContract("Be brief.", CHATML, SPECIAL[2], 2, SPECIAL[0], 0)


def make_records(base: str | Path, count: int, tokens: int) -> list[Record]:
    """Return rows of random letters, each of exactly `tokens` tokens (64 or more)."""
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    free = tokens - sum(map(len, encode(tokenizer, contract(), Record("", "", "qa"))))
    numbers = torch.Generator().manual_seed(1)

    def letters(length: int) -> str:
        return "".join(chr(97 + i) for i in torch.randint(0, 26, (length,), generator=numbers).tolist())

    return [Record(letters(free - free // 2), letters(free // 2), "qa") for _ in range(count)]


def write_inputs(folder: Path, shape: str, steps: int, batch: int, tokens: int, device: str = "cpu") -> None:
    """Write a training's `base`, `contract.json`, `valid.jsonl`, and `rows.jsonl` of `steps` steps of `batch` rows."""
    write_base(shape, folder / "base", device)
    write_contract(folder / "contract.json", contract())
    records = make_records(folder / "base", (steps + 1) * batch, tokens)
    batches = [records[start : start + batch] for start in range(0, len(records), batch)]
    write_jsonl(folder / "rows.jsonl", write_steps(batches[:steps]))
    write_jsonl(folder / "valid.jsonl", (record.to_json() for record in batches[steps]))


def check(job: dict[str, Any], findings: Findings) -> None:
    """Write the inputs of the other checks. `job`: `shape`, `folder`, `steps`, `tokens` of a row and of a `pack`."""
    with findings.trying("small model"):
        transformers_logging.disable_progress_bar()
        write_inputs(Path(job["folder"]), job["shape"], job["steps"], job["pack"] // job["tokens"], job["tokens"])


if __name__ == "__main__":
    run_job(check, sys.argv[1])
