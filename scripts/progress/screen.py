"""A block of lines at the bottom of a terminal that is drawn again in place."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO


class Screen:
    """Draws on a terminal that understands ANSI control codes. What is printed above the block stays."""

    def __init__(self, stream: TextIO) -> None:
        """`stream`: the terminal."""
        self.stream = stream
        self.drawn = 0  # lines on the terminal

    def clear(self) -> None:
        """Remove the block, so that something can be printed in its place."""
        self.draw([])

    def _size(self) -> os.terminal_size:
        with suppress(OSError, ValueError):  # no terminal
            size = os.get_terminal_size(self.stream.fileno())
            if all(size):  # a terminal may not know
                return size
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Draw these lines instead of the block; what does not fit is cut off."""
        size = self._size()
        lines = [line[: size.columns - 1] for line in lines[-(size.lines - 1) :]]
        up = f"\x1b[{self.drawn}F\x1b[J" if self.drawn else ""  # up to the block's first line, and erase from there
        self.stream.write(up + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self.drawn = len(lines)
