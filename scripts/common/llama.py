"""llama.cpp's voice (warnings and errors go to the log, the rest is dropped), and what it says of a vocabulary."""

import ctypes
import logging

import llama_cpp

from scripts.common.errors import GradusError

# levels of ggml_log: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
WARNING, ERROR = 3, 4


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level in (WARNING, ERROR):
        logging.log(logging.WARNING if level == WARNING else logging.ERROR, "llama.cpp: %s", text.decode().rstrip())


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


def quiet() -> None:
    """Send llama.cpp's messages to the log. Call it before anything else of llama.cpp."""
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
