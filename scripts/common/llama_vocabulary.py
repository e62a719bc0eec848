"""How llama.cpp treats a GGUF's vocabulary."""

import llama_cpp

from scripts.common.errors import GradusError
from scripts.common.llama_log import quiet


def adds_bos(path: str) -> bool:
    """Return whether llama.cpp, and so Ollama, puts a BOS token before a text. Run it isolated.

    The GGUF's metadata is not enough: if it has no such key, llama.cpp decides by tokenizer type.
    """
    quiet()
    options = llama_cpp.llama_model_default_params()
    options.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), options)
    if not model:
        raise GradusError(f"{path}: llama.cpp cannot load it; the GGUF file is incomplete. Delete it and run again")
    adds = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model)))
    llama_cpp.llama_model_free(model)
    return adds
