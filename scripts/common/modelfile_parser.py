"""Parse a Modelfile as Ollama does, quirks included.

A value ends at the first line end where its quotes close, so `\"\"\"` at the end of a line inside a text ends it
early. Characters that Go does not consider printable (no-break spaces, emoji joiners) are silently dropped.
"""

import re


def unquote(value: str) -> str | None:
    """Return a value without its quotes; None if they are not closed."""
    for quote in ('"""', '"'):
        if value.startswith(quote):
            closed = value.endswith(quote) and len(value) >= 2 * len(quote)
            return value[len(quote) : -len(quote)] if closed else None
    return value


def read_modelfile(text: str) -> list[tuple[str, str]]:
    """Return the commands in order as (lowercase name, value); parameters as ("parameter stop", value).

    Raises ValueError if quotes are still open at the end.
    """
    commands: list[tuple[str, str]] = []
    name, held = "", ""
    for line in re.findall(r"[^\r\n]*(?:[\r\n]|$)", text):
        if not name:
            if not line.strip() or line.startswith("#"):
                continue
            name, _, line = line.partition(" ")
            name = name.lower()
            if name == "parameter":
                key, _, line = line.partition(" ")
                name = f"parameter {key}"
        held += "".join(c for c in line if c.isprintable() or c in "\t\r\n")
        value = unquote(held.strip())
        if value is not None:
            commands.append((name, value))
            name, held = "", ""
    if name:
        raise ValueError(f"the quotes of {name.upper()} are never closed")
    return commands
