"""Progress for an experiment tracker (`train.report_to`), sent by the callbacks that transformers has for each."""

import copy
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from scripts.common.errors import GradusError

FOLDER = Path(".work/trackers")  # of the trackers that write files; not outputs: they hold times and may be deleted


class Tracking(TrainerCallback):
    """Passes events on to a tracker's callback, with steps counted over all phases.

    transformers counts from where the process began to train: from 0 in each phase, and again after a kill.
    """

    def __init__(self, report_to: str, project: str, name: str, first_step: int) -> None:
        """`report_to`: a tracker's name, or none. `project`, `name`: what the tracker calls run and phase.

        `first_step`: the steps of all phases before this process. Raises GradusError if the tracker cannot be used.
        """
        self.first_step = first_step
        os.environ.setdefault("TRACKIO_DIR", str(FOLDER.absolute() / "trackio"))  # read when trackio is imported
        try:
            self.callbacks = [make() for make in get_reporting_integration_callbacks(report_to)]
        except (ValueError, RuntimeError, ImportError) as error:
            raise GradusError(
                f"train.report_to: {report_to} cannot be used here: {error} Install it (docs/training.md, Trackers) "
                "or set train.report_to: none"
            ) from error
        for callback in self.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(FOLDER / "tensorboard" / project / name)

    def _pass_on(self, event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state = copy.copy(state)
        state.global_step += self.first_step
        for callback in self.callbacks:
            getattr(callback, event)(args, state, control, **kwargs)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the tracker's run."""
        self._pass_on("on_train_begin", args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Send what is known of a step."""
        self._pass_on("on_log", args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the tracker's run."""
        self._pass_on("on_train_end", args, state, control, **kwargs)
