"""llama.cpp's messages: warnings and errors go to the log, the others are dropped."""

import ctypes
import logging

import llama_cpp

# levels of ggml_log: 1 debug, 2 info, 3 warning, 4 error, 5 continuation
WARNING, ERROR = 3, 4


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level in (WARNING, ERROR):
        logging.log(logging.WARNING if level == WARNING else logging.ERROR, "llama.cpp: %s", text.decode().rstrip())


def quiet() -> None:
    """Send llama.cpp's messages to the log. Call this before any other llama.cpp function."""
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
