"""What llama.cpp says of a GGUF's vocabulary."""

import llama_cpp

from scripts.common.errors import GradusError
from scripts.common.llama_log import quiet


def adds_bos(path: str) -> bool:
    """Say whether llama.cpp, and so Ollama, puts a BOS token before a text. Run it isolated.

    The GGUF's own word is not enough: where it says nothing, llama.cpp goes by the kind of tokenizer.
    """
    quiet()
    options = llama_cpp.llama_model_default_params()
    options.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), options)
    if not model:
        raise GradusError(f"{path}: llama.cpp cannot load it, it is not a whole GGUF file; delete it and run again")
    adds = bool(llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(model)))
    llama_cpp.llama_model_free(model)
    return adds
