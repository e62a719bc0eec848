"""Keep optional packages that take seconds to import out of an import that does not need them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """Within the block, Python takes these modules for not installed, unless they have been imported before."""
    names = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None makes the import raise ImportError
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
