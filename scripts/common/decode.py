"""llama.cpp inference: greedy decoding of several sequences at a time, and logits of given tokens.

llama-cpp-python's `Llama` class decodes only one sequence; this module uses its low-level functions.
"""

import os
from collections.abc import Sequence

import llama_cpp
import numpy as np

from scripts.common.errors import GradusError
from scripts.common.llama_log import quiet


class Decoder:
    """A loaded GGUF with room for `sequences` sequences of `length` tokens each."""

    def __init__(self, path: str, threads: int, sequences: int, length: int) -> None:
        """Load the model on the CPU. Raises GradusError if llama.cpp cannot load the file."""
        quiet()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        options.use_extra_bufts = False  # the repacked weights crash on machines with AMX (ggml-org/llama.cpp#20824)
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            raise GradusError(f"{path}: llama.cpp cannot load it; the GGUF file is incomplete. Delete it and run again")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        room = llama_cpp.llama_context_default_params()
        room.n_ctx, room.n_batch, room.n_ubatch = sequences * length, 512, 512
        room.n_seq_max, room.kv_unified = sequences, True
        room.n_threads = room.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, room)
        if not self.context:
            raise RuntimeError(f"llama.cpp cannot make a context of {sequences} sequences of {length} tokens")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(512, 0, 1)
        self.sequences, self.length = sequences, length

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
        buffer = (llama_cpp.ctypes.c_char * 256)()
        for token in ids:
            count = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            pieces += buffer.raw[: max(0, count)]
        return pieces.decode(errors="replace")

    def _feed(self, entries: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        """Decode (token, position, sequence, wanted) entries; return the most likely token after each wanted one."""
        best = []
        for start in range(0, len(entries), 512):
            part = entries[start : start + 512]
            self.batch.n_tokens = len(part)
            for i, (token, position, sequence, wanted) in enumerate(part):
                self.batch.token[i], self.batch.pos[i] = token, position
                self.batch.n_seq_id[i], self.batch.logits[i] = 1, wanted
                self.batch.seq_id[i][0] = sequence
            if code := llama_cpp.llama_decode(self.context, self.batch):
                raise RuntimeError(f"llama_decode failed with code {code}")
            for i, (_, _, _, wanted) in enumerate(part):
                if wanted:
                    logits = llama_cpp.llama_get_logits_ith(self.context, i)
                    best.append(int(np.ctypeslib.as_array(logits, shape=(self.size,)).argmax()))
        return best

    def wave(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[tuple[list[int], bool]]:
        """Return (answer ids, whether it ended with an end-of-turn token) for up to `sequences` prompts."""
        llama_cpp.llama_memory_clear(self.memory, True)
        shared = min(len(os.path.commonprefix([list(p) for p in prompts])), min(map(len, prompts)) - 1)
        self._feed([(token, i, 0, False) for i, token in enumerate(prompts[0][:shared])])
        for sequence in range(1, len(prompts)):
            llama_cpp.llama_memory_seq_cp(self.memory, 0, sequence, 0, shared)
        entries = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
            if position >= shared
        ]
        following = dict(enumerate(self._feed(entries)))
        answers: list[list[int]] = [[] for _ in prompts]
        stopped = [False] * len(prompts)
        while following:
            entries = []
            for sequence, token in following.items():
                if llama_cpp.llama_vocab_is_eog(self.vocab, token):
                    stopped[sequence] = True
                    continue
                answers[sequence].append(token)
                if len(answers[sequence]) < max_tokens:
                    position = len(prompts[sequence]) + len(answers[sequence]) - 1
                    entries.append((token, position, sequence, True))
            following = dict(zip([entry[2] for entry in entries], self._feed(entries), strict=True))
        return list(zip(answers, stopped, strict=True))

    def logits(self, tokens: Sequence[int], start: int) -> np.ndarray:
        """Return the fp32 logits that predict tokens[start:], shape (len(tokens) - start, vocabulary)."""
        llama_cpp.llama_memory_clear(self.memory, True)
        rows = []
        for begin in range(0, len(tokens) - 1, 512):
            part = tokens[begin : min(begin + 512, len(tokens) - 1)]
            self.batch.n_tokens = len(part)
            wanted = [begin + i >= start - 1 for i in range(len(part))]
            for i, token in enumerate(part):
                self.batch.token[i], self.batch.pos[i] = token, begin + i
                self.batch.n_seq_id[i], self.batch.logits[i] = 1, wanted[i]
                self.batch.seq_id[i][0] = 0
            if code := llama_cpp.llama_decode(self.context, self.batch):
                raise RuntimeError(f"llama_decode failed with code {code}")
            for i in range(len(part)):
                if wanted[i]:
                    values = llama_cpp.llama_get_logits_ith(self.context, i)
                    rows.append(np.array(np.ctypeslib.as_array(values, shape=(self.size,)), dtype=np.float32))
        return np.stack(rows)

    def close(self) -> None:
        """Free llama.cpp's memory."""
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)
