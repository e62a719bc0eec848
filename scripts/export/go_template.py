"""Translate a chat template to Ollama's (Go's) template language, by rendering probe conversations with it.

Ollama gives a template `.System`, the text of the system messages, and `.Messages`, all messages with `.Role` and
`.Content`.
"""

from dataclasses import dataclass

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError

ROLES = ("system", "user", "assistant")
ADVICE = "Use another base model, or serve the GGUF with another server."


@dataclass(frozen=True)
class Wrappers:
    """What a template writes around messages."""

    around: dict[str, tuple[str, str]]  # before and after each role's text; "system" only if the template has it
    without_system: str  # what it writes first if there is no system message, such as a default one
    answer: str  # what starts an answer


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
    start = ""
    for number, message in enumerate(turns, 1):
        role, so_far = message["role"], render(turns[:number])
        if not so_far.startswith(start) or marks[role] not in so_far[len(start) :]:
            raise GradusError(
                f"the chat template does more than wrap messages (role {role}); Ollama cannot follow it. {ADVICE}"
            )
        before, _, after = so_far[len(start) :].partition(marks[role])
        around[role] = (before, after)
        start = so_far
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
    )
    later = [{"role": "user", "content": 'a "b" {{c}}'}, {"role": "assistant", "content": "d"}, user, assistant, user]
    for trial in ([*turns, *later], later):
        if render(trial, generate=True) != wrap(wrappers, trial):
            raise GradusError(
                f"the chat template treats later turns differently from the first; Ollama cannot follow it. {ADVICE}"
            )
    return wrappers


def wrap(wrappers: Wrappers, messages: list[dict[str, str]]) -> str:
    """Return the conversation as the wrappers write it, up to the start of an answer."""
    roles = [message["role"] for message in messages]
    start = "" if "system" in roles else wrappers.without_system
    turns = "".join(message["content"].join(wrappers.around[message["role"]]) for message in messages)
    return start + turns + wrappers.answer


def go_template(wrappers: Wrappers) -> str:
    """Return Ollama's template for the wrappers: every message in turn, then the start of an answer."""

    def literal(text: str) -> str:
        return text.replace("{{", '{{ "{{" }}')

    parts = []
    if wrappers.without_system:
        parts.append(f"{{{{ if not .System }}}}{literal(wrappers.without_system)}{{{{ end }}}}")
    parts.append("{{ range .Messages }}")
    for number, (role, (before, after)) in enumerate(wrappers.around.items()):
        parts.append(f'{{{{ {"else if" if number else "if"} eq .Role "{role}" }}}}')
        parts.append(f"{literal(before)}{{{{ .Content }}}}{literal(after)}")
    parts.append("{{ end }}{{ end }}" + literal(wrappers.answer))
    return "".join(parts)
