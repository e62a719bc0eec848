"""How far one model's predictions are from another's, token by token."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.common.tokens import TokenCounter

MOST_ROWS = 64  # if answers are short labels, the prompts take the time


class Divergence:
    """Collects Kullback-Leibler divergence, agreement and perplexity over answer tokens.

    KL(P ‖ Q) is in nats, with the reference as P (Kullback and Leibler 1951); perplexity is exp of the mean negative
    log-likelihood.
    """

    def __init__(self) -> None:
        """Start with no tokens."""
        self.kl: list[np.ndarray] = []
        self.agree: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []  # (2, tokens): of the reference and of the other model

    def add(self, reference: np.ndarray, other: np.ndarray, targets: Sequence[int]) -> None:
        """Add both models' logits, of shape (tokens, vocabulary), and the ids of the tokens that actually follow."""
        width = min(reference.shape[1], other.shape[1])  # a converter may pad the vocabulary
        p = log_softmax(reference[:, :width].astype(np.float64), axis=1)
        q = log_softmax(other[:, :width].astype(np.float64), axis=1)
        self.kl.append((np.exp(p) * (p - q)).sum(1))
        self.agree.append(p.argmax(1) == q.argmax(1))
        rows = np.arange(len(targets))
        self.losses.append(-np.stack([p[rows, targets], q[rows, targets]]))

    def summary(self) -> dict[str, Any]:
        """Return tokens, mean, 99% quantile and maximum of KL, top-1 agreement, and both perplexities."""
        kl, losses = np.concatenate(self.kl), np.concatenate(self.losses, axis=1)
        return {
            "tokens": len(kl),
            "mean_kl": round(max(0.0, float(kl.mean())), 6),
            "p99_kl": round(max(0.0, float(np.quantile(kl, 0.99))), 6),
            "max_kl": round(max(0.0, float(kl.max())), 6),
            "top1_agreement": round(float(np.concatenate(self.agree).mean()), 6),
            "reference_perplexity": round(float(np.exp(losses[0].mean())), 5),
            "perplexity": round(float(np.exp(losses[1].mean())), 5),
        }


def probes(
    tokenizer: str, contract: ChatContract, records: Sequence[Record], tokens: int
) -> list[tuple[list[int], int]]:
    """Return (ids of prompt and answer, where the answer begins) of rows with about `tokens` answer tokens in all.

    Rows are sorted by id, which is a hash. At least one row, at most MOST_ROWS; raises GradusError if there is none.
    """
    if not records:
        raise GradusError("no held-out rows to compare predictions on; raise split.valid_share or split.test_share")
    counter = TokenCounter(tokenizer, contract)
    chosen: list[tuple[list[int], int]] = []
    held = 0
    for record in sorted(records, key=lambda record: record.id):
        asked, answer = counter.encode(record)
        if chosen and (held + len(answer) > tokens or len(chosen) == MOST_ROWS):
            break
        chosen.append((asked + answer, len(asked)))
        held += len(answer)
    return chosen


def llama_logits(
    path: str, rows: Sequence[tuple[Sequence[int], int]], threads: int, gpu_layers: int = 0
) -> list[np.ndarray]:
    """Return llama.cpp's logits that predict the answer tokens of each row. Run it isolated."""
    from scripts.common.decode import Decoder

    decoder = Decoder(path, threads, 1, max(len(ids) for ids, _ in rows) + 1, gpu_layers)
    logits = [decoder.logits(ids, start) for ids, start in rows]
    decoder.close()
    return logits
