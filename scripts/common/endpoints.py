"""What the config says about models behind an OpenAI-compatible API: the check of an entry, and its key.

The key is in the environment only; the config names the variable.
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scripts.common.errors import GradusError

CACHE = Path(".work/endpoint")  # where replies are kept, one in a file
RESERVED = ("model", "messages", "stream", "n")  # fields of a request that `request` must not set


def check_endpoint(entry: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """Yield (path in an entry of `models`, what is wrong) for what the schema cannot express about its `endpoint`."""
    settings = entry.get("endpoint")
    if settings is None:
        return
    if wrong := _url_fault(settings["url"]):
        yield ["endpoint", "url"], wrong
    name = settings["key_env"]
    if name is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        # never quote the value: it may be the key itself
        yield (
            ["endpoint", "key_env"],
            "not the name of an environment variable in capitals, such as OPENAI_API_KEY. If this is the key itself, "
            "remove it from the file, and revoke it if others could read the file",
        )
    for key in sorted(set(RESERVED) & set(settings["request"])):
        yield ["endpoint", "request", key], "Gradus sets this field itself; remove it"


def _url_fault(url: str) -> str:
    """Return what is wrong with an endpoint's address; empty if nothing. User and password are never quoted."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError if it is not a number up to 65535
    except ValueError as error:
        return f"not an address ({error})"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password; keep secrets in an environment variable, named by key_env"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        return f"{url!r} is not an address such as https://host/v1; only http and https are supported"
    if parts.query or parts.fragment:
        return "ends in ?… or #…; give the address alone, and a key in an environment variable, named by key_env"
    if parts.path.rstrip("/").endswith("/completions"):
        return "give the part before /chat/completions, which usually ends in /v1"
    return ""


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def find_key(settings: Mapping[str, Any]) -> str | None:
    """Return an endpoint's key from the environment; None if it takes none.

    Raises GradusError, without the value, if the variable is not set or cannot be a key.
    """
    name = settings["key_env"]
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise GradusError(
            f"{settings['url']} takes a key from ${name} (endpoint.key_env), which is not set. "
            f"Set it in the shell that starts the run: export {name}=…"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise GradusError(
            f"${name} is not a key: it has spaces, line breaks or letters other than ASCII. Set it to the key alone"
        )
    return key
