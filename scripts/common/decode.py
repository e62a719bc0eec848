"""llama.cpp inference: greedy or sampled answers to many prompts at a time, and logits of given tokens.

llama-cpp-python's `Llama` class decodes only one sequence; this module uses its low-level functions.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from ctypes import POINTER, c_char, c_int8, c_int32, cast, create_string_buffer
from dataclasses import dataclass, field
from typing import Any

import llama_cpp
import numpy as np

from scripts.common.constrain import Grammar
from scripts.common.errors import GradusError
from scripts.common.llama_log import quiet

CHUNK = 512  # the most tokens in one call of llama_decode


@dataclass
class _Running:
    """An answer under way. Its place in the list of running ones is its sequence id in llama.cpp."""

    prompt: int  # the prompt's index
    position: int  # of the next token: the tokens of prompt and answer that are in the cache
    grammar: Grammar | None
    generator: np.random.Generator | None = None  # that draws its tokens; None if it is greedy
    ids: list[int] = field(default_factory=list)
    over: bool = False
    stopped: bool = False


def common_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return the number of tokens with which all prompts begin, at most all but the last; 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    return min(len(os.path.commonprefix([list(prompt) for prompt in prompts])), min(map(len, prompts)) - 1)


def draw_token(logits: np.ndarray, temperature: float, generator: np.random.Generator) -> int:
    """Return a token drawn from softmax(logits / temperature), computed in float64; logits: shape (vocabulary,)."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return int(generator.choice(len(weights), p=weights / weights.sum()))


class Decoder:
    """A loaded GGUF with room for `sequences` sequences of `length` tokens each."""

    def __init__(self, path: str, threads: int, sequences: int, length: int, gpu_layers: int = 0) -> None:
        """Load the model, `gpu_layers` of its layers (`choose_layers`) on the GPU, and the others on the CPU.

        Raises GradusError if llama.cpp cannot load the file, or finds no GPU.
        """
        quiet()
        if gpu_layers and not llama_cpp.llama_supports_gpu_offload():
            raise GradusError(
                "llama.cpp finds no GPU that it can use: its driver may be too old for the CUDA that it was built with "
                "(`nvidia-smi` shows the newest one). To answer on the CPU, set evaluate.gpu_layers: 0"
            )
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers, options.split_mode = gpu_layers, llama_cpp.LLAMA_SPLIT_MODE_NONE
        # -1: no GPU. Built for CUDA, llama.cpp would compute long prompts there even without any layers on it
        options.main_gpu = 0 if gpu_layers else -1
        options.use_extra_bufts = False  # the repacked weights crash on machines with AMX (ggml-org/llama.cpp#20824)
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            small = "the GPU's memory is too small (lower evaluate.gpu_layers), or " if gpu_layers else ""
            raise GradusError(
                f"{path}: llama.cpp cannot load it; {small}the GGUF file is incomplete. Delete it and run again"
            )
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        room = llama_cpp.llama_context_default_params()
        room.n_ctx, room.n_batch, room.n_ubatch = sequences * -(-length // 256) * 256, CHUNK, CHUNK  # in blocks of 256
        # each sequence has keys and values of its own: in a buffer for all, attention would look at everyone's
        room.n_seq_max, room.kv_unified = sequences, False
        room.n_threads = room.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, room)
        if not self.context:
            advice = "; the GPU's memory may be too small: lower evaluate.gpu_layers" if gpu_layers else ""
            raise RuntimeError(f"llama.cpp cannot make a context of {sequences} sequences of {length} tokens{advice}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.sequences, self.length = sequences, length
        # llama_batch's arrays, filled through numpy: one field at a time through ctypes takes longer than small models
        self._tokens, self._positions, self._ids = (np.zeros(CHUNK, np.int32) for _ in range(3))
        self._wanted, self._counts = np.zeros(CHUNK, np.int8), np.ones(CHUNK, np.int32)
        self._pointers = self._ids.ctypes.data + self._ids.itemsize * np.arange(CHUNK, dtype=np.uintp)
        integers = POINTER(c_int32)
        self._batch = llama_cpp.llama_batch(
            token=self._tokens.ctypes.data_as(integers),
            pos=self._positions.ctypes.data_as(integers),
            n_seq_id=self._counts.ctypes.data_as(integers),
            seq_id=cast(self._pointers.ctypes.data, POINTER(integers)),
            logits=self._wanted.ctypes.data_as(POINTER(c_int8)),
        )

    @property
    def trained_context(self) -> int:
        """Return the tokens that the model was trained to look at."""
        return int(llama_cpp.llama_model_n_ctx_train(self.model))

    @property
    def token_bytes(self) -> int:
        """Return the bytes that a token takes in the cache: keys and values of all layers, in fp16."""
        heads = llama_cpp.llama_model_n_head_kv(self.model)
        usual = llama_cpp.llama_model_n_embd(self.model) // llama_cpp.llama_model_n_head(self.model)
        width = sum(self._metadata(f"attention.{what}_length", usual) for what in ("key", "value"))
        return int(2 * llama_cpp.llama_model_n_layer(self.model) * heads * width)

    def _metadata(self, key: str, default: int) -> int:
        """Return a number of the architecture's metadata in the GGUF."""
        buffer = create_string_buffer(256)
        llama_cpp.llama_model_meta_val_str(self.model, b"general.architecture", buffer, 256)
        name = buffer.value + b"." + key.encode()
        return int(buffer.value) if llama_cpp.llama_model_meta_val_str(self.model, name, buffer, 256) > 0 else default

    def tokenize(self, text: str, add_special: bool = False) -> list[int]:
        """Return the token ids of a rendered prompt; control tokens in it are parsed as such.

        `add_special` adds the tokens that the vocabulary puts at the beginning and end of a text.
        """
        raw = text.encode()
        ids = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), add_special, True)
        return list(ids[:count])

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without control tokens."""
        pieces = b""
        buffer = (c_char * 256)()
        for token in ids:
            count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            pieces += buffer.raw[: max(0, count)]
        return pieces.decode(errors="replace")

    def decode(self, tokens: Any, positions: Any, sequences: Any, wanted: Any) -> np.ndarray:
        """Decode at most CHUNK tokens, given with their positions, sequence ids and whether logits are wanted.

        Returns llama.cpp's own buffer of the wanted logits, shape (wanted, vocabulary), valid until the next call.
        """
        count = len(tokens)
        self._batch.n_tokens = count
        self._tokens[:count], self._positions[:count], self._ids[:count] = tokens, positions, sequences
        self._wanted[:count] = wanted
        if code := llama_cpp.llama_decode(self.context, self._batch):
            raise RuntimeError(f"llama_decode failed with code {code}")
        rows = int(np.count_nonzero(self._wanted[:count]))
        if not rows:
            return np.empty((0, self.size), np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=(rows, self.size))

    def forget(self) -> None:
        """Empty the cache of all sequences."""
        llama_cpp.llama_memory_clear(self.memory, True)

    def _read(self, tokens: Sequence[int], first: int, place: int) -> np.ndarray:
        """Decode tokens from position `first` on; return the logits after the last one, shape (vocabulary,)."""
        for start in range(0, len(tokens), CHUNK):
            part = np.asarray(tokens[start : start + CHUNK])
            positions = np.arange(first + start, first + start + len(part))
            logits = self.decode(part, positions, place, positions == first + len(tokens) - 1)
        return logits[0]

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        grammar: str | None = None,
        ended: Callable[[], object] = lambda: None,
        temperature: float = 0,
        seeds: Sequence[int] = (),
    ) -> list[tuple[list[int], bool]]:
        """Return (answer ids, whether it ended with an end-of-turn token) of each prompt; greedy decoding, unless there
        is a temperature.

        Continuous batching: each step decodes one token of every running answer. When an answer ends, the next prompt
        takes its place; the longest start first. So what is decoded together depends on the prompts and the model
        alone. Tokens with which all prompts begin are computed once. A prompt is read in calls of its own: llama.cpp
        would split a call with different numbers of tokens of its sequences.

        `grammar`: what answers must match, in GBNF. `ended` is called after each answer.
        `temperature`: tokens are drawn (`draw_token`), each prompt's by a generator of its own, of `seeds`; a prompt
        that is given several times in a row is read once. There can be no grammar then.
        """
        if grammar and temperature:
            raise ValueError("drawing tokens that match a grammar is not supported")
        template = Grammar(self.vocab, grammar) if grammar else None
        answers: list[tuple[list[int], bool]] = [([], False)] * len(prompts)
        waiting = deque(sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)))
        places, running = min(self.sequences, len(prompts)), list[_Running]()
        shared = self._share(prompts, places)
        # drawn answers to the same prompt: the prompt that was read last, its place, and the logits after it. The place
        # still holds it when the next prompt starts, because only a start writes over an answer
        read: tuple[Sequence[int], int, np.ndarray] | None = None

        def take(answer: _Running, logits: np.ndarray) -> None:
            if answer.generator:
                token = draw_token(logits, temperature, answer.generator)
            else:
                token = answer.grammar.choose(logits) if answer.grammar else int(logits.argmax())
            answer.stopped = token >= 0 and llama_cpp.llama_vocab_is_eog(self.vocab, token)
            if token >= 0 and not answer.stopped:
                answer.ids.append(token)
            answer.over = token < 0 or answer.stopped or len(answer.ids) == max_tokens
            if answer.grammar and not answer.over:
                answer.grammar.accept(token)
            if answer.over:
                answers[answer.prompt] = answer.ids, answer.stopped
                if answer.grammar:
                    answer.grammar.close()
                ended()

        def again(prompt: Sequence[int], place: int) -> np.ndarray | None:
            """Copy the prompt from where it was read last; None if another one was, or if it cannot be copied."""
            if not read or read[0] != prompt:
                return None
            if read[1] != place:
                llama_cpp.llama_memory_seq_cp(self.memory, read[1], place, -1, -1)
            # without the answer that followed
            return read[2] if llama_cpp.llama_memory_seq_rm(self.memory, place, len(prompt), -1) else None

        def start(place: int) -> _Running:
            nonlocal read
            i = waiting.popleft()
            generator = np.random.default_rng(seeds[i]) if temperature else None
            answer = _Running(i, len(prompts[i]), template.copy() if template else None, generator)
            logits = again(prompts[i], place) if temperature else None
            if logits is None:
                logits = first_logits(i, place)
            if temperature:
                read = prompts[i], place, logits.copy()
            take(answer, logits)
            return answer

        def first_logits(i: int, place: int) -> np.ndarray:
            # what comes after the shared tokens makes room; recurrent models can only forget everything
            known = shared if llama_cpp.llama_memory_seq_rm(self.memory, place, shared, -1) else 0
            if not known:
                llama_cpp.llama_memory_seq_rm(self.memory, place, -1, -1)
            return self._read(prompts[i][known:], known, place)

        while waiting or running:
            for place in range(places):
                while waiting and (place == len(running) or running[place].over):
                    running[place : place + 1] = [start(place)]
            self._close_gaps(running)
            if running:
                last, positions = [answer.ids[-1] for answer in running], [answer.position for answer in running]
                for answer, logits in zip(running, self.decode(last, positions, range(len(running)), 1), strict=True):
                    answer.position += 1
                    take(answer, logits)
        if template:
            template.close()
        return answers

    def _share(self, prompts: Sequence[Sequence[int]], places: int) -> int:
        """Compute the tokens with which all prompts begin, in every place; return how many there are."""
        self.forget()
        if shared := common_length(prompts):
            self._read(prompts[0][:shared], 0, 0)
            for place in range(1, places):
                llama_cpp.llama_memory_seq_cp(self.memory, 0, place, -1, -1)
        return shared

    def _close_gaps(self, running: list[_Running]) -> None:
        """Move the last answers to the places of those that are over: llama.cpp computes adjacent sequences at once."""
        kept = [place for place, answer in enumerate(running) if not answer.over]
        gaps = [place for place in range(len(kept)) if running[place].over]
        for gap, place in zip(gaps, reversed(kept), strict=False):
            llama_cpp.llama_memory_seq_cp(self.memory, place, gap, -1, -1)
            running[gap] = running[place]
        del running[len(kept) :]

    def logits(self, tokens: Sequence[int], start: int) -> np.ndarray:
        """Return the fp32 logits that predict tokens[start:], shape (len(tokens) - start, vocabulary)."""
        self.forget()
        rows = []
        for begin in range(0, len(tokens) - 1, CHUNK):
            positions = np.arange(begin, min(begin + CHUNK, len(tokens) - 1))
            rows.append(self.decode(tokens[begin : positions[-1] + 1], positions, 0, positions >= start - 1).copy())
        return np.concatenate(rows)

    def close(self) -> None:
        """Free llama.cpp's memory."""
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)
