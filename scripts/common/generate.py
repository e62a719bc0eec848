"""Render conversations with the template in a GGUF, and generate answers to them with llama.cpp."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from tqdm import tqdm

from scripts.common.answers import Answer, make_rows, make_speed
from scripts.common.chat import ChatContract
from scripts.common.decode import Decoder
from scripts.common.errors import GradusError, first_line
from scripts.common.gguf_info import own_template, require_contract
from scripts.common.gpus import gpu_name
from scripts.common.hashing import sha256_file
from scripts.common.isolate import run_isolated
from scripts.common.llama_vocabulary import adds_bos
from scripts.common.prompts import Conversation
from scripts.common.records import Record

# of keys and values; sequences that would need more are not decoded together. Fixed, because it shapes results
CACHE_BYTES = 2**30
# what a template can raise that refuses a conversation, or has a fault
FAULTS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)


def render_prompts(gguf: str | Path, contract: ChatContract | None, asked: Sequence[Conversation]) -> list[str]:
    """Return each conversation, rendered with the template in the GGUF. Without a contract, a BOS token comes first if
    the vocabulary wants one, also where the template writes none: so do llama.cpp's server and Ollama.

    Raises GradusError if that template is not the contract's, or, without a contract, if there is none, or if it fails.
    """
    if contract:
        template = require_contract(gguf, contract)["chat_template"]
        end, begin = contract.end_of_turn, contract.bos_token
    else:
        template, begin, end = own_template(gguf)
    prompts: list[str] = []
    try:
        formatter = Jinja2ChatFormatter(template=template, eos_token=end, bos_token=begin)
        for messages in asked:
            prompts.append(formatter(messages=messages).prompt)  # type: ignore[arg-type]
    except FAULTS as error:
        roles = ", ".join(message["role"] for message in next(iter(asked[len(prompts) :]), []))
        raise GradusError(
            f"{gguf}: its chat template fails on a conversation with the roles {roles}: {first_line(error)}. "
            'If it takes no system prompt, give the model\'s entry in models a system_prompt: "". Otherwise leave out '
            "its examples, or take another model"
        ) from None
    if contract or not begin or not run_isolated(f"reading {gguf}", adds_bos, str(gguf)):
        return prompts
    return [prompt if prompt.startswith(begin) else begin + prompt for prompt in prompts]


def first_fitting(path: str, versions: Sequence[Sequence[str]], max_tokens: int) -> list[int]:
    """Return, of the versions of each prompt, the place of the first that fits, with an answer of `max_tokens`, into
    the context that the model was trained for; the last place if none does.
    """
    decoder = Decoder(path, 1, 1, 1)
    room = decoder.trained_context - max_tokens
    places = []
    for prompts in versions:
        fits = (place for place, prompt in enumerate(prompts) if len(decoder.tokenize(prompt)) <= room)
        places.append(next(fits, len(prompts) - 1))
    decoder.close()
    return places


def answer_all(
    path: str,
    prompts: Sequence[str],
    max_tokens: int,
    sequences: int,
    threads: int,
    grammar: str | None = None,
    names: Sequence[str] | None = None,
    gpu_layers: int = 0,
    temperature: float = 0,
    seeds: Sequence[int] = (),
) -> list[Answer]:
    """Return the model's answers to rendered prompts, in order, at most `max_tokens` tokens each; greedy without a
    `temperature`, else with tokens drawn by a generator of one of `seeds` for each prompt.

    At most `sequences` are decoded together; fewer if their keys and values would take more than CACHE_BYTES. Their
    number and order can change the last bits of logits, so they depend on nothing but the arguments.

    `grammar`: what every answer must match, in llama.cpp's notation (GBNF). `names`: the prompts' rows, for messages.
    `gpu_layers`: of the model, computed on the GPU (`choose_layers`).
    Raises GradusError if a prompt with its answer does not fit into the model's context.
    """
    if not prompts:
        return []
    probe = Decoder(path, threads, 1, 1)
    encoded = [probe.tokenize(prompt) for prompt in prompts]
    trained, token_bytes = probe.trained_context, probe.token_bytes
    probe.close()
    longest = max(range(len(prompts)), key=lambda i: len(encoded[i]))
    length = len(encoded[longest]) + max_tokens
    if length > trained:
        name = names[longest] if names else f"prompt {longest + 1}"
        raise GradusError(
            f"{name}: the prompt has {len(encoded[longest])} tokens; with {max_tokens} for the answer that is "
            f"more than the {trained} that {path} was trained to look at. Lower evaluate.max_tokens (of "
            "questions outside the task: forgetting.max_tokens), shorten the system prompt, or leave the row out."
        )
    together = min(sequences, len(prompts), max(1, CACHE_BYTES // (token_bytes * length)))
    decoder = Decoder(path, threads, together, length, gpu_layers)
    with tqdm(total=len(prompts), desc="answers", unit="answer", mininterval=1) as progress:
        answers = decoder.answer(encoded, max_tokens, grammar, progress.update, temperature, seeds)
    found = [
        Answer(decoder.detokenize(ids), stopped, len(asked), len(ids))
        for asked, (ids, stopped) in zip(encoded, answers, strict=True)
    ]
    decoder.close()
    return found


def answer_records(
    gguf: str | Path,
    asked: Sequence[Record],
    prompts: Sequence[str],
    max_tokens: int,
    sequences: int,
    threads: int,
    grammar: str | None = None,
    gpu_layers: int = 0,
    temperature: float = 0,
    seeds: Sequence[int] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `prompts` ask, and a summary (rows, tokens, seconds, the GPU if any).

    The other arguments are those of `answer_all`, which runs in a process of its own.
    """
    names = [record.source or record.id for record in asked]
    began = time.monotonic()
    settings = (max_tokens, sequences, threads, grammar, names, gpu_layers, temperature, seeds)
    answers = run_isolated(f"answering with {gguf}", answer_all, str(gguf), prompts, *settings)
    seconds = time.monotonic() - began
    rows = make_rows(asked, answers)
    computed = {"gpu": gpu_name(gpu_layers)} if gpu_layers else {}
    return rows, {"gguf_sha256": sha256_file(gguf), **make_speed(rows, seconds), **computed}
