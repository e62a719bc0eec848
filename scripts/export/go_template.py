"""A chat template in Ollama's (Go's) template language, found by asking the template what it writes.

Ollama hands a template `.System`, the system messages' text, and `.Messages`, all messages with `.Role` and
`.Content`.
"""

from dataclasses import dataclass

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Wrappers:
    """What a template writes around messages."""

    around: dict[str, tuple[str, str]]  # before and after each role's text; no "system" if the template takes none
    without_system: str  # what it writes first if there is no system message, such as one of its own
    answer: str  # what begins an answer


def find_wrappers(contract: ChatContract, bos: str) -> Wrappers:
    """Return what the contract's template writes before and after each role's text.

    `bos` at the start is left out: the BOS token where Ollama puts it there itself, as the GGUF asks, else nothing.
    Raises GradusError for a template that is more than such a wrapping of each message in turn: it has no faithful form
    in Ollama's template language.
    """

    def render(messages: list[dict[str, str]], generate: bool = False) -> str:
        return contract.template.render(messages, generate).removeprefix(bos)

    marks = {role: f"\x01{role}\x01" for role in ROLES}
    talk = [{"role": role, "content": marks[role]} for role in ROLES]
    try:
        render(talk[:1])
    except GradusError:  # a base that knows no system prompt
        if contract.system_prompt:
            raise
        talk = talk[1:]
    around: dict[str, tuple[str, str]] = {}
    start = ""
    for number, message in enumerate(talk, 1):
        role, so_far = message["role"], render(talk[:number])
        if not so_far.startswith(start) or marks[role] not in so_far[len(start) :]:
            raise GradusError(
                f"the chat template does more than wrap messages (at the {role}'s); Ollama cannot follow it"
            )
        before, _, after = so_far[len(start) :].partition(marks[role])
        around[role] = (before, after)
        start = so_far
    user, assistant = talk[-2], talk[-1]
    alone = render([user])
    wrapped = marks["user"].join(around["user"])
    if not alone.endswith(wrapped):
        raise GradusError("the chat template wraps a first request otherwise than later ones; Ollama cannot follow it")
    found = Wrappers(
        around,
        alone.removesuffix(wrapped) if "system" in around else "",
        render([user], generate=True).removeprefix(alone),
    )
    later = [{"role": "user", "content": 'a "b" {{c}}'}, {"role": "assistant", "content": "d"}, user, assistant, user]
    for trial in ([*talk, *later], later):
        if render(trial, generate=True) != wrap(found, trial):
            raise GradusError("the chat template treats later turns otherwise than first ones; Ollama cannot follow it")
    return found


def wrap(wrappers: Wrappers, messages: list[dict[str, str]]) -> str:
    """Return the conversation as the wrappers write it, up to where an answer begins."""
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
