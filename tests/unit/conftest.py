"""A tiny random llama with a tokenizer, and the chat contract that goes with it."""

import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.common import machine
from scripts.common.chat import ChatContract

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def cpu_with(monkeypatch):
    """Return a function that gives the CPU these instruction sets, and no others, as far as Gradus asks."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    return lambda *flags: monkeypatch.setattr(machine, "describe_cpu", lambda: {"flags": list(flags)})


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A random llama with a byte-level tokenizer, as prepare_base would leave one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("base")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: n for n, token in enumerate(special + letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    (folder / "base.json").write_text('{"source": "random"}')
    return folder


@pytest.fixture(scope="session")
def untied(base, tmp_path_factory):
    """A base in several files, with an output layer of its own."""
    folder = tmp_path_factory.mktemp("untied") / "base"
    config = LlamaConfig.from_pretrained(base, tie_word_embeddings=False)
    torch.manual_seed(3)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    shutil.copy(base / "base.json", folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture(scope="session")
def contract():
    return ChatContract("Be brief.", CHATML, "<|im_end|>", 2, "<|endoftext|>", 0)


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory, contract):
    """A GGUF of random weights, whose tokens are bytes, with the contract's template."""
    import gguf
    from tokenizers import pre_tokenizers

    from scripts.setup.check_llama import VOCABULARY, write_random_model

    def add_bytes(writer):
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        tokens += [f"<unused{n}>" for n in range(VOCABULARY - len(tokens))]
        kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_types([kinds[token in special] for token in tokens])
        writer.add_token_merges(["a b"])
        writer.add_eos_token_id(2)
        writer.add_chat_template(contract.chat_template)

    path = tmp_path_factory.mktemp("gguf") / "random.gguf"
    write_random_model(path, add_bytes)
    return path
