"""Models without weights, into which the weights of one module at a time are put: they fit into memory at any depth."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM

from scripts.common.weights import find_tensors, read_tensor

PREFIX = "base_model.model."  # of names in PEFT's files


class EmptyModel:
    """A checkpoint's model, with an adapter if one is given, whose weights are on the meta device.

    `base` and `adapter` are {tensor: file}; `model` is transformers' own, and PEFT's layers are in it.
    """

    def __init__(self, folder: str | Path, adapter: str | Path | None, dtype: torch.dtype, device: str = "cpu") -> None:
        """Make the model of a checkpoint folder; its weights are to be of type `dtype` on `device`, the adapter's in
        fp32.
        """
        self.base, self.adapter = find_tensors(folder), dict[str, Path]()
        self.dtype, self.device = dtype, torch.device(device)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with init_empty_weights(include_buffers=False):
            self.model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
        if adapter:
            from peft import PeftConfig, inject_adapter_in_model  # its import takes more than a second

            self.adapter = find_tensors(adapter)
            shape = PeftConfig.from_pretrained(str(adapter))
            self.model = inject_adapter_in_model(shape, self.model, low_cpu_mem_usage=True)
        self.model.eval()
        for name, buffer in list(self.model.named_buffers()):  # they are computed, not read
            module, _, key = name.rpartition(".")
            setattr(self.model.get_submodule(module), key, buffer.to(self.device))

    def open(self, name: str) -> torch.Tensor:
        """Return a tensor of the checkpoint as it is in its file; only what is read of it takes memory."""
        return read_tensor(self.base[name], name)  # type: ignore[no-any-return]

    def read(self, name: str) -> torch.Tensor:
        """Return the weights of a parameter of `model`. Raises KeyError if they are not in the files."""
        if ".default" in name:  # PEFT's name of the adapter, which its files leave out
            stored = PREFIX + name.replace(".default", "")
            if "lora_magnitude_vector" in name:
                stored = stored.removesuffix(".weight")
            return read_tensor(self.adapter[stored], stored).to(self.device).float()  # type: ignore[no-any-return]
        return self.open(name.replace(".base_layer.", ".")).to(self.device).to(self.dtype)

    @contextmanager
    def filled(self, name: str) -> Iterator[Any]:
        """Yield the module `name` with its weights; afterwards they are gone from memory."""
        module = self.model.get_submodule(name)
        empty = module.state_dict()
        module.load_state_dict({key: self.read(f"{name}.{key}") for key in empty}, assign=True)
        try:
            yield module
        finally:
            module.load_state_dict(empty, assign=True)
