"""The gates of fidelity: what is demanded of each hand-over, in one table.

A check writes `{"values": {gate: value}, …}`; the threshold is applied afterwards, so that another threshold
measures nothing again. A value of null was not measured; the check says why under "skipped".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """One demand."""

    step: str  # the rule whose work is judged
    most: bool  # whether the threshold is the most that is allowed, or the least
    threshold: float | str  # a number, or the key under `fidelity` in the config
    meaning: str
    advice: str


SAME = "delete results/<run>/export and run again; if it stays, the base's files are not what llama.cpp expects"
GATES = {
    "labels.prompt_trained": Gate(
        "train_phase", True, 0, "prompt tokens that are trained", "this is a fault in Gradus; report it with this row"
    ),
    "labels.end_untrained": Gate(
        "train_phase", True, 0, "rows whose end of turn is not trained", "the model would not learn to stop"
    ),
    "labels.padding_trained": Gate(
        "train_phase", True, 0, "padding tokens that are trained", "set base_model.pad_token to a token of its own"
    ),
    "labels.text_differs": Gate(
        "train_phase", True, 0, "rows whose trained tokens do not spell the response", "look at the rows' characters"
    ),
    "merge.targets_changed": Gate(
        "merge",
        False,
        1,
        "share of targeted tensors that changed",
        "the adapter was hardly trained: more steps or rate",
    ),
    "merge.others_changed": Gate("merge", True, 0, "other tensors that changed", SAME),
    "merge.ties_broken": Gate("merge", True, 0, "tied embeddings that no longer are", SAME),
    "merge.mean_kl": Gate(
        "merge",
        True,
        "merge_mean_kl",
        "mean KL of base + live adapter against merged",
        "merge into bf16 (merged_into: bf16) and run again",
    ),
    "merge.max_kl": Gate(
        "merge",
        True,
        "merge_max_kl",
        "largest KL of a token, live adapter against merged",
        "merge into bf16 (merged_into: bf16) and run again",
    ),
    "gguf.token_mismatches": Gate("convert_gguf", True, 0, "probe texts tokenized otherwise by llama.cpp", SAME),
    "gguf.bos_difference": Gate("convert_gguf", True, 0, "difference in the number of BOS tokens", SAME),
    "gguf.end_tokens_differ": Gate(
        "convert_gguf", True, 0, "end tokens that differ, or that llama.cpp goes past", SAME
    ),
    "gguf.template_differs": Gate("convert_gguf", True, 0, "whether the chat template differs", SAME),
    "gguf.metadata_missing": Gate("convert_gguf", True, 0, "keys of origin that are missing", SAME),
    "gguf.mean_kl": Gate(
        "convert_gguf", True, "gguf_mean_kl", "mean KL of transformers against llama.cpp, both bf16", SAME
    ),
    "quant.mean_kl": Gate(
        "quantize", True, "quant_mean_kl", "mean KL of bf16 against the served quant", "take a larger export.quant"
    ),
    "quant.top1_agreement": Gate(
        "quantize", False, "quant_agreement", "share of tokens with the same first choice", "take a larger export.quant"
    ),
    "quant.task_drop": Gate(
        "quantize", True, "quant_task_drop", "loss of the headline metric against bf16", "take a larger export.quant"
    ),
    "template.llama_cpp_differs": Gate(
        "convert_gguf", True, 0, "conversations that llama.cpp writes otherwise than transformers", SAME
    ),
    "template.ollama_differs": Gate(
        "modelfile",
        True,
        0,
        "conversations that the Modelfile writes otherwise",
        "this base cannot go to Ollama as it is",
    ),
    "template.system_differs": Gate("modelfile", True, 0, "whether the Modelfile's system prompt differs", SAME),
    "stopping.share": Gate(
        "train_phase",
        False,
        "stopped",
        "least share of answers that end by themselves",
        "train longer; look at max_tokens",
    ),
    "serving.same_answers": Gate(
        "quantize", False, "served_alike", "share of answers that a server gives as the evaluation got them", SAME
    ),
}


def judge(check: str, facts: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return each gate of a check's facts: name, check, step, value, threshold, passed; null was not measured."""
    rows = []
    for name, value in facts["values"].items():
        gate = GATES[name]
        threshold = thresholds[gate.threshold] if isinstance(gate.threshold, str) else gate.threshold
        passed = None if value is None else value <= threshold if gate.most else value >= threshold
        rows.append(
            {
                "name": name,
                "check": check,
                "step": gate.step,
                "value": value,
                "threshold": threshold,
                "bound": "at most" if gate.most else "at least",
                "passed": passed,
                "meaning": gate.meaning,
                **({"skipped": facts["skipped"]} if value is None else {}),
            }
        )
    return rows


def explain(failed: Sequence[Mapping[str, Any]]) -> str:
    """Return what to tell of failed gates: the step first, value, threshold, what to do."""
    return "\n".join(
        f"step {row['step']} failed gate {row['name']} ({row['check']}): {row['meaning']} is {row['value']:g}, "
        f"{row['bound']} {row['threshold']:g} is demanded; {GATES[row['name']].advice}"
        for row in failed
    )
