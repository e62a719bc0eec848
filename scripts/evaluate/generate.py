"""Generate greedy answers to many prompts.

Prompts are decoded in batches of fixed composition, because the sequences in a batch can change the last bits of each
other's logits.
"""

from collections.abc import Sequence

from tqdm import tqdm

from scripts.common.answers import Answer
from scripts.common.decode import Decoder


def answer_all(path: str, prompts: Sequence[str], max_tokens: int, sequences: int, threads: int) -> list[Answer]:
    """Return the model's greedy answers to rendered prompts, in order, at most `max_tokens` tokens each.

    Prompts are sorted by length and decoded `sequences` at a time, so that a batch ends at about the same time.
    """
    if not prompts:
        return []
    probe = Decoder(path, threads, 1, 512)
    encoded = [probe.tokenize(prompt) for prompt in prompts]
    probe.close()
    decoder = Decoder(path, threads, sequences, max(map(len, encoded)) + max_tokens)
    order = sorted(range(len(prompts)), key=lambda i: (len(encoded[i]), i))
    answers: dict[int, Answer] = {}
    with tqdm(total=len(prompts), desc="answers", unit="answer", mininterval=1) as progress:
        for start in range(0, len(order), sequences):
            rows = order[start : start + sequences]
            for row, (ids, stopped) in zip(rows, decoder.wave([encoded[i] for i in rows], max_tokens), strict=True):
                answers[row] = Answer(decoder.detokenize(ids), stopped, len(encoded[row]), len(ids))
            progress.update(len(rows))
    decoder.close()
    return [answers[i] for i in range(len(prompts))]
