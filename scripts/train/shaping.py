"""Which settings in the `train` section of the config affect the result. The others are not params of any rule:
changing them retrains nothing, and checkpoints stay valid.
"""

from collections.abc import Mapping
from typing import Any

# where to log, how often to write a checkpoint, how much memory the estimate may count on, what is computed twice to
# save memory (a test compares the bits)
NOT_SHAPING = ("report_to", "checkpoint_steps", "checkpoint_minutes", "memory_gib", "gradient_checkpointing")


def shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that affect what is trained. A single process is left out: what was trained before there
    could be several stays valid, and so do plans of experiments.
    """
    shaped = {name: value for name, value in train.items() if name not in NOT_SHAPING}
    return {name: value for name, value in shaped.items() if (name, value) != ("processes", 1)}


def not_shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other settings."""
    return {name: train[name] for name in NOT_SHAPING}
