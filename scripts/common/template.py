"""Render chat templates as transformers does, in Jinja's sandbox.

A template comes with a downloaded model, so it is not trusted: it cannot reach Python's internals, and it sees only
messages and tokens.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.common.errors import GradusError


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _no_clock(form: str) -> None:
    raise TemplateError(
        "it writes today's date into the prompt, so prompts would differ from day to day; set chat.date"
    )


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A chat template, ready to render conversations; the same options as in transformers."""

    def __init__(self, template: str, bos_token: str = "", eos_token: str = "") -> None:
        """Compile it. Raises GradusError if it is not a Jinja template."""
        environment: Environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals.update(raise_exception=_refuse, strftime_now=_no_clock)
        self.tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self.template = environment.from_string(template)
        except TemplateError as error:
            raise GradusError(f"the chat template is not a valid Jinja template: {error}") from None

    def render(self, messages: Sequence[Mapping[str, str]], generate: bool = True) -> str:
        """Return the text of a conversation; with `generate`, up to where the model's answer begins.

        Raises GradusError if the template rejects the conversation, fails, or violates the sandbox.
        """
        try:
            return self.template.render(messages=messages, add_generation_prompt=generate, **self.tokens)
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise GradusError(f"the chat template fails on a conversation with the roles {roles}: {error}") from None
