"""The fidelity gates: the requirements for each step from training to serving, in one table.

A check writes `{"values": {gate: value}, …}`; thresholds are applied afterwards, so changing one does not repeat a
measurement. A value of null means not measured; the check says why under "skipped".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gate:
    """One requirement."""

    step: str  # the rule whose output is checked
    most: bool  # whether the threshold is a maximum (else a minimum)
    threshold: float | str  # a number, or the key under `fidelity` in the config
    meaning: str
    advice: str


SAME = "delete results/<run>/export and run again; if it fails again, llama.cpp does not support the base's files"
GATES = {
    "labels.prompt_trained": Gate(
        "train_phase", True, 0, "prompt tokens that are trained", "this is a bug in Gradus; report it with this row"
    ),
    "labels.end_untrained": Gate(
        "train_phase",
        True,
        0,
        "rows whose end of turn is not trained",
        "the model would not learn to stop; report this as a bug",
    ),
    "labels.padding_trained": Gate(
        "train_phase",
        True,
        0,
        "padding tokens that are trained",
        "set base_model.pad_token to a token that is used for nothing else",
    ),
    "labels.text_differs": Gate(
        "train_phase",
        True,
        0,
        "rows whose trained tokens do not spell the response",
        "look for unusual characters in the rows",
    ),
    "merge.targets_changed": Gate(
        "merge",
        False,
        1,
        "share of targeted tensors that changed",
        "the adapter was hardly trained: train more steps or raise train.learning_rate",
    ),
    "merge.others_changed": Gate("merge", True, 0, "other tensors that changed", SAME),
    "merge.ties_broken": Gate("merge", True, 0, "tied embeddings that are no longer tied", SAME),
    "merge.mean_kl": Gate(
        "merge",
        True,
        "merge_mean_kl",
        "mean KL of the merged model from base + live adapter",
        "merge into bf16 (merged_into: bf16) and run again",
    ),
    "merge.max_kl": Gate(
        "merge",
        True,
        "merge_max_kl",
        "largest KL of a token, merged model from base + live adapter",
        "merge into bf16 (merged_into: bf16) and run again",
    ),
    "gguf.token_mismatches": Gate("convert_gguf", True, 0, "probe texts that llama.cpp tokenizes differently", SAME),
    "gguf.bos_difference": Gate("convert_gguf", True, 0, "difference in the number of BOS tokens", SAME),
    "gguf.end_tokens_differ": Gate(
        "convert_gguf", True, 0, "end tokens that differ, or that llama.cpp does not stop at", SAME
    ),
    "gguf.template_differs": Gate("convert_gguf", True, 0, "whether the chat template differs", SAME),
    "gguf.metadata_missing": Gate("convert_gguf", True, 0, "missing metadata keys on the origin", SAME),
    "gguf.mean_kl": Gate(
        "convert_gguf", True, "gguf_mean_kl", "mean KL of llama.cpp from transformers, both bf16", SAME
    ),
    "quant.mean_kl": Gate(
        "quantize", True, "quant_mean_kl", "mean KL of the served quant from bf16", "use a larger export.quant"
    ),
    "quant.top1_agreement": Gate(
        "quantize", False, "quant_agreement", "share of tokens with the same first choice", "use a larger export.quant"
    ),
    "quant.task_drop": Gate(
        "quantize", True, "quant_task_drop", "drop of the headline metric from bf16", "use a larger export.quant"
    ),
    "template.llama_cpp_differs": Gate(
        "convert_gguf", True, 0, "conversations that llama.cpp renders differently from transformers", SAME
    ),
    "template.ollama_differs": Gate(
        "modelfile",
        True,
        0,
        "conversations that the Modelfile renders differently",
        "this base does not work in Ollama; serve the GGUF with another server",
    ),
    "template.system_differs": Gate("modelfile", True, 0, "whether the Modelfile's system prompt differs", SAME),
    "stopping.share": Gate(
        "train_phase",
        False,
        "stopped",
        "lowest share of answers that end with the end-of-turn token",
        "train longer, or raise evaluate.max_tokens",
    ),
    "serving.same_answers": Gate(
        "quantize", False, "served_alike", "share of a server's answers that are the same as in the evaluation", SAME
    ),
}


def judge(check: str, facts: Mapping[str, Any], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return each gate of a check: name, check, step, value, threshold, passed; null means not measured."""
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
    """Return a message about the failed gates: step, value, threshold, what to do."""
    return "\n".join(
        f"step {row['step']} failed gate {row['name']} ({row['check']}): {row['meaning']} is {row['value']:g}, "
        f"{row['bound']} {row['threshold']:g} is required; {GATES[row['name']].advice}"
        for row in failed
    )
