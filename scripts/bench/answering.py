"""Compare ways to answer the same prompts with llama.cpp: one after the other, many at a time, and its own benchmark.

In: a GGUF, held-out rows, the chat contract. Out: answering.json: seconds of each way, with loading the model (median
over rounds, in which the ways alternate), tokens, answers equal to the loop's, and the speeds of the benchmark.

The benchmark is the loop of llama.cpp's own (tools/batched-bench): the same calls of llama_decode, with random tokens
and nothing chosen. From its prompt and answer tokens per second follows how long the tokens that Gradus computed take.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, zip_longest
from statistics import median
from typing import Any

import numpy as np
from llama_cpp import LLAMA_SPLIT_MODE_NONE, Llama
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from tqdm import tqdm

from scripts.common.answers import Answer, sample
from scripts.common.chat import read_contract
from scripts.common.generate import answer_all, render_prompts
from scripts.common.gguf_info import own_template
from scripts.common.gpus import choose_layers, gpu_name
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import conversations
from scripts.common.records import read_records

LOOP = "a loop of create_chat_completion"
Way = Callable[[], list[Answer]]


def one_by_one(
    path: str, asked: Sequence[Any], max_tokens: int, length: int, threads: int, gpu_layers: int
) -> list[Answer]:
    """Return the answers to conversations by llama-cpp-python's own class; greedy, without its penalty on repetition.

    length: of the longest prompt with its answer, in tokens.
    """
    template, begin, end = own_template(path)
    # left to itself, the class may take a template of its own that looks like the GGUF's
    handler = Jinja2ChatFormatter(template=template, eos_token=end, bos_token=begin).to_chat_handler()
    options: dict[str, Any] = {"n_threads": threads, "n_threads_batch": threads, "chat_handler": handler}
    options |= {"n_gpu_layers": gpu_layers, "split_mode": LLAMA_SPLIT_MODE_NONE, "main_gpu": 0 if gpu_layers else -1}
    model: Any = Llama(path, n_ctx=length, verbose=False, **options)
    answers = []
    for messages in asked:
        found = model.create_chat_completion(messages, temperature=0, repeat_penalty=1.0, max_tokens=max_tokens)
        choice, used = found["choices"][0], found["usage"]
        stopped = choice["finish_reason"] == "stop"
        answers.append(Answer(choice["message"]["content"], stopped, used["prompt_tokens"], used["completion_tokens"]))
    return answers


def in_jobs(
    path: str, prompts: Sequence[str], max_tokens: int, sequences: int, jobs: int, gpu_layers: int = 0
) -> list[Answer]:
    """Return the answers of `jobs` processes with one thread each, to which the prompts are dealt in turn."""
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        ask = partial(answer_all, path, max_tokens=max_tokens, sequences=sequences, threads=1, gpu_layers=gpu_layers)
        dealt = [pool.submit(ask, prompts[k::jobs]) for k in range(jobs)]
        rows = zip_longest(*(part.result() for part in dealt))
        return [answer for answer in chain.from_iterable(rows) if answer]


def benchmark(
    path: str, prompt: int, answer: int, sequences: int, threads: int, gpu_layers: int
) -> tuple[float, float]:
    """Return (prompt tokens per second, answer tokens per second) of llama.cpp's batched benchmark: `sequences` prompts
    of `prompt` random tokens each, then `answer` tokens of each.
    """
    from scripts.common.decode import CHUNK, Decoder

    decoder = Decoder(path, threads, sequences, prompt + answer, gpu_layers)
    tokens = np.random.default_rng(1).integers(0, decoder.size, (sequences, prompt + answer))
    decoder.answer([tokens[0, :16].tolist()], 1)  # warm up
    decoder.forget()
    read, positions = tokens[:, :prompt].ravel(), np.tile(np.arange(prompt), sequences)
    places = np.repeat(np.arange(sequences), prompt)
    began = time.monotonic()
    for start in range(0, len(read), CHUNK):
        part = slice(start, start + CHUNK)
        decoder.decode(read[part], positions[part], places[part], positions[part] == prompt - 1)
    middle = time.monotonic()
    for position in range(prompt, prompt + answer):
        decoder.decode(tokens[:, position], position, range(sequences), 1)
    end = time.monotonic()
    return len(read) / (middle - began), sequences * answer / (end - middle)


def prompt_tokens(path: str, prompts: Sequence[str]) -> tuple[int, list[int]]:
    """Return the number of tokens with which all prompts begin, and that of each prompt."""
    from scripts.common.decode import Decoder, common_length

    decoder = Decoder(path, 1, 1, 1)
    encoded = [decoder.tokenize(prompt) for prompt in prompts]
    return common_length(encoded), list(map(len, encoded))


def race(ways: dict[str, Way], bench: Callable[[int, int], tuple[float, float]], shared: int, rounds: int) -> Any:
    """Return {ways: {way: {seconds, times_as_fast, share_of_benchmark, …}}, benchmark: …}.

    The first way is the loop; the tokens of the last one are what the benchmark is asked for.

    bench(prompt tokens, answer tokens) of each sequence → tokens per second of both. shared: tokens of all prompts that
    are computed once.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[Answer]] = {}
    speeds = []
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, way in ways.items():
            began = time.monotonic()
            answers[name] = way()
            seconds[name].append(time.monotonic() - began)
        ours = answers[name]
        whole, written = sum(answer.prompt_tokens or 0 for answer in ours), sum(answer.tokens or 0 for answer in ours)
        speeds.append(bench(round(whole / len(ours)), max(1, round(written / len(ours)))))
    prompt_speed, answer_speed = (median(values) for values in zip(*speeds, strict=True))
    read = whole - shared * (len(ours) - 1)
    ideal = read / prompt_speed + written / answer_speed
    texts = {name: [answer.text for answer in found] for name, found in answers.items()}
    first, slowest = next(iter(texts.values())), median(next(iter(seconds.values())))
    table = {
        name: {
            "seconds": round(median(taken), 2),
            "times_as_fast": round(slowest / median(taken), 2),
            "share_of_benchmark": round(ideal / median(taken), 3),
            "answer_tokens": sum(answer.tokens for answer in answers[name]),
            "same_as_loop": sum(map(str.__eq__, first, texts[name])),
        }
        for name, taken in seconds.items()
    }
    return {
        "rows": len(ours),
        "prompt_tokens": whole,
        "prompt_tokens_computed": read,
        "ways": table,
        "benchmark": {
            "prompt_tokens_per_s": round(prompt_speed, 1),
            "answer_tokens_per_s": round(answer_speed, 1),
            "seconds": round(ideal, 2),
        },
    }


def build(
    path: str,
    asked: Sequence[Any],
    max_tokens: int,
    sequences: int,
    tried: Sequence[int],
    threads: int,
    gpu_layers: int = 0,
) -> tuple[dict[str, Way], Callable[[int, int], tuple[float, float]], int]:
    """Return the ways, llama.cpp's benchmark and the tokens with which all prompts begin, as `race` takes them."""
    prompts = render_prompts(path, None, asked)
    shared, lengths = run_isolated("counting tokens", prompt_tokens, path, prompts)
    isolated = partial(run_isolated, f"measuring {path}")
    ways: dict[str, Way] = {
        LOOP: partial(isolated, one_by_one, path, asked, max_tokens, max(lengths) + max_tokens, threads, gpu_layers),
        f"{threads} jobs of one thread, {sequences} sequences each": partial(
            in_jobs, path, prompts, max_tokens, sequences, threads, gpu_layers
        ),
    }
    for count in [*(count for count in tried if count != sequences), sequences]:
        way = partial(isolated, answer_all, path, prompts, max_tokens, count, threads, gpu_layers=gpu_layers)
        ways[f"{count} sequences"] = way
    bench = partial(isolated, benchmark, path, sequences=sequences, threads=threads, gpu_layers=gpu_layers)
    return ways, bench, shared


if job := find_job(globals()):
    with logging_to(job.log[0]):
        given, how = job.input, job.params
        rows = sample(list(read_records(given.records)), how.rows)
        conversed = conversations(read_contract(given.contract), rows)
        layers = choose_layers(how.gpu_layers)
        built = build(given.gguf, conversed, how.max_tokens, how.sequences, how.tried, how.threads, layers)
        write_json(job.output.measured, {"threads": how.threads, "gpu": gpu_name(layers), **race(*built, how.rounds)})
