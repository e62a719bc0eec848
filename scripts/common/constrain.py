"""Constrained decoding: llama.cpp's own grammar sampler, asked for the most likely token that it allows."""

from ctypes import POINTER, byref
from typing import Any

import llama_cpp
import numpy as np

from scripts.common.errors import GradusError

ASKED = (1, 64, 1024)  # how many of the likeliest tokens the grammar is shown until it allows one; then all


class Grammar:
    """A grammar and what it has accepted so far. One for each sequence; `copy` is cheaper than parsing again."""

    def __init__(self, vocab: Any, text: str, sampler: Any = None) -> None:
        """Parse a grammar in llama.cpp's notation (GBNF) that has a rule `root`, or take a sampler that has.

        With `vocab` None the grammar can only be checked. Raises GradusError if llama.cpp cannot compile it; llama.cpp
        writes the reason to stderr.
        """
        self.vocab, self.text = vocab, text
        self.sampler = sampler or llama_cpp.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self.sampler:
            raise GradusError("llama.cpp cannot compile the grammar")

    def copy(self) -> "Grammar":
        """Return a grammar in the same state."""
        return Grammar(self.vocab, self.text, llama_cpp.llama_sampler_clone(self.sampler))

    def choose(self, logits: np.ndarray) -> int:
        """Return the most likely token that the grammar allows, the first if several are; -1 if it allows none.

        logits: shape (vocabulary,). A finished grammar allows only the tokens that end an answer.
        """
        for count in (*(count for count in ASKED if count < len(logits)), len(logits)):
            if count == 1:
                shown = np.array([logits.argmax()])
            elif count == len(logits):
                shown = np.arange(count)
            else:  # with all that are as likely as the last of them
                shown = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
            candidates = np.zeros(len(shown), [("id", np.int32), ("logit", np.float32), ("p", np.float32)])
            candidates["id"], candidates["logit"] = shown, logits[shown]
            data = candidates.ctypes.data_as(POINTER(llama_cpp.llama_token_data))
            array = llama_cpp.llama_token_data_array(data, len(shown), -1, False)
            llama_cpp.llama_sampler_apply(self.sampler, byref(array))
            best = int(candidates["logit"].argmax())
            if candidates["logit"][best] > -np.inf:
                return int(shown[best])
        return -1

    def accept(self, token: int) -> None:
        """Advance the grammar by a token that it allows."""
        llama_cpp.llama_sampler_accept(self.sampler, token)

    def close(self) -> None:
        """Free llama.cpp's memory."""
        llama_cpp.llama_sampler_free(self.sampler)
