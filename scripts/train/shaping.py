"""Which settings of the config's section `train` shape what is trained. Others are no params of a rule: changing one of
them retrains nothing, and checkpoints stay valid.
"""

from collections.abc import Mapping
from typing import Any

# what is logged, how often a checkpoint is written, how much memory the estimate may count on
NOT_SHAPING = ("report_to", "checkpoint_steps", "checkpoint_minutes", "memory_gib")


def shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that shape what is trained."""
    return {name: value for name, value in train.items() if name not in NOT_SHAPING}


def not_shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the other settings."""
    return {name: train[name] for name in NOT_SHAPING}
