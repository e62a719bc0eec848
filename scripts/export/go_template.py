"""Translate a chat template to Ollama's (Go's) template language, by rendering probe conversations with it.

Ollama gives a template `.System`, the text of the system messages, and `.Messages`, all messages with `.Role` and
`.Content`. It merges consecutive messages of the same role, other than `tool`, into one, with an empty line between
them, before the template sees them; no template can undo that.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError

ROLES = ("system", "user", "assistant")
TOOL = "tool"  # what a tool returned; only if the template has it
ANY = "\x02role\x02"  # a role that no template knows
ADVICE = "Use another base model, or serve the GGUF with another server."


@dataclass(frozen=True)
class Wrappers:
    """What a template writes around messages."""

    around: dict[str, tuple[str, str]]  # before and after each role's text; "system", "tool" if the template has them
    without_system: str  # what it writes first if the first message is no system message, such as a default one
    answer: str  # what starts an answer
    named: tuple[str, str] | None = None  # before and after a role's name, if it writes the name of any role alike


def written(render: Callable[..., str], turns: list[dict[str, str]], role: str) -> tuple[str, str] | None:
    """Return what is written before and after the text of a turn of `role` that follows `turns`; None if it is not
    merely wrapped.
    """
    text = f"\x01{role}\x01"
    start = render(turns) if turns else ""
    whole = render([*turns, {"role": role, "content": text}])
    before, found, after = whole.removeprefix(start).partition(text)
    return (before, after) if whole.startswith(start) and found else None


def find_wrappers(contract: ChatContract, bos: str) -> Wrappers:
    """Return what the contract's template writes before and after each role's text.

    `bos` is removed from the start: the BOS token if Ollama adds it itself, as the GGUF requests, else "". Raises
    GradusError for a template that does more than wrap each message in turn: it has no exact equivalent in Ollama's
    template language.
    """

    def render(messages: list[dict[str, str]], generate: bool = False) -> str:
        return contract.template.render(messages, generate).removeprefix(bos)

    marks = {role: f"\x01{role}\x01" for role in ROLES}
    turns = [{"role": role, "content": marks[role]} for role in ROLES]
    try:
        render(turns[:1])
    except GradusError:  # a base without system prompts
        if contract.system_prompt:
            raise
        turns = turns[1:]
    around: dict[str, tuple[str, str]] = {}
    for number, message in enumerate(turns):
        pair = written(render, turns[:number], message["role"])
        if pair is None:
            raise GradusError(
                f"the chat template does more than wrap messages (role {message['role']}); Ollama cannot follow it. "
                f"{ADVICE}"
            )
        around[message["role"]] = pair
    named = None
    with suppress(GradusError):  # a template that refuses other roles
        if tool := written(render, turns, TOOL):
            around[TOOL] = tool
            named = name_of_any_role(written(render, turns, ANY), around)
    user, assistant = turns[-2], turns[-1]
    alone = render([user])
    wrapped = marks["user"].join(around["user"])
    if not alone.endswith(wrapped):
        raise GradusError(
            f"the chat template wraps the first request differently from later ones; Ollama cannot follow it. {ADVICE}"
        )
    wrappers = Wrappers(
        around,
        alone.removesuffix(wrapped) if "system" in around else "",
        render([user], generate=True).removeprefix(alone),
        named,
    )
    later = [{"role": "user", "content": 'a "b" {{c}}'}, {"role": "assistant", "content": "d"}, user, assistant, user]
    for trial in ([*turns, *later], later):
        if render(trial, generate=True) != wrap(wrappers, trial):
            raise GradusError(
                f"the chat template treats later turns differently from the first; Ollama cannot follow it. {ADVICE}"
            )
    return wrappers


def name_of_any_role(unknown: tuple[str, str] | None, around: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """Return what is written before and after the name of a role, if the template writes all roles alike. `unknown`:
    what it writes before and after a turn of the role ANY.
    """
    if not unknown or unknown[0].count(ANY) != 1:
        return None
    before, _, after = unknown[0].partition(ANY)
    alike = all(pair == (before + role + after, unknown[1]) for role, pair in around.items())
    return (before, after) if alike else None


def wrap(wrappers: Wrappers, messages: list[dict[str, str]]) -> str:
    """Return the conversation as the wrappers write it, up to the start of an answer."""
    start = "" if messages[0]["role"] == "system" else wrappers.without_system
    turns = "".join(message["content"].join(wrappers.around[message["role"]]) for message in messages)
    return start + turns + wrappers.answer


def go_template(wrappers: Wrappers) -> str:
    """Return Ollama's template for the wrappers: every message in turn, then the start of an answer."""

    def literal(text: str) -> str:
        return text.replace("{{", '{{ "{{" }}')

    parts = []
    if wrappers.without_system:
        # not `if not .System`, which is also true of an empty system message, and false of one that comes later
        first = '{{ if ne (index .Messages 0).Role "system" }}'
        parts.append(f"{first}{literal(wrappers.without_system)}{{{{ end }}}}")
    parts.append("{{ range .Messages }}")
    if wrappers.named:
        before, after = map(literal, wrappers.named)
        parts.append(f"{before}{{{{ .Role }}}}{after}{{{{ .Content }}}}{literal(wrappers.around['user'][1])}")
    else:
        for number, (role, (before, after)) in enumerate(wrappers.around.items()):
            parts.append(f'{{{{ {"else if" if number else "if"} eq .Role "{role}" }}}}')
            parts.append(f"{literal(before)}{{{{ .Content }}}}{literal(after)}")
        parts.append("{{ end }}")
    parts.append("{{ end }}" + literal(wrappers.answer))
    return "".join(parts)
