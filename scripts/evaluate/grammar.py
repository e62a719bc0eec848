"""Grammars for constrained decoding, in llama.cpp's notation (GBNF): from a JSON schema, labels, commands or a file.

`python -m scripts.evaluate.grammar labels|commands ROWS` prints that of a run's rows, for a server of your own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_cpp
from llama_cpp.llama_grammar import PRIMITIVE_RULES, BuiltinRule, SchemaConverter

from scripts.common.errors import GradusError, first_line
from scripts.common.isolate import run_isolated
from scripts.common.records import read_records
from scripts.common.strict_json import read_schema
from scripts.tasks.aws_commands import parse_command

# a character of a string; the library's rule lets control characters through, which JSON does not
CHARACTER = BuiltinRule(PRIMITIVE_RULES["char"].content.replace(r'[^"\\]', r'[^"\\\x7F\x00-\x1F]'))

# Words of a command that a POSIX-like shell (sh, bash, zsh) splits and does nothing else with: no pipes, redirections,
# second commands, comments, variables, braces, `$(…)`, backticks or `!` of its history, and none that becomes an option
# (`'--delete'`). A placeholder of masking is a redirection from a file that does not exist: a shell then runs nothing.
WORDS = r"""
value ::= " " word
word ::= "-"? first rest* "!"? | "-" | "''" | "\"\""
first ::= [^ \t\r\n"'`\\|<>;&(){$!#\x00-\x1F\x7F-] | begun
begun ::= "!=" | placeholder | "\\" [^\r\n\x00-\x1F-] | "'" undashed single* "'" | "\"" (plain | escaped) inner
rest ::= bare | "-" | "\\" [^\r\n\x00-\x1F] | "'" single* "'" | "\"" inner
bare ::= [^ \t\r\n"'`\\|<>;&(){$!\x00-\x1F\x7F-] | "!=" | placeholder
placeholder ::= "<" [A-Z] [A-Z_]* "_" [0-9]+ ">"
single ::= [^'\x00-\x08\x0B-\x1F]
undashed ::= [^'\x00-\x08\x0B-\x1F-]
inner ::= (plain | "-" | escaped)* "$"? "\""
plain ::= [^"\\`$!\x00-\x08\x0B-\x1F-]
escaped ::= "\\" [^\r\n\x00-\x1F] | "$" [ .,/)}\]] | "!" [= ]
"""


def quote(text: str) -> str:
    """Return a text as a literal of GBNF."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class _Converter(SchemaConverter):
    """llama-cpp-python's converter of JSON schemas, with four changes.

    Strings have no control characters. A field without a schema may have any value, not only objects. Names and
    constants may have any characters; the library's literals break at quotes, backslashes and emojis. Fields come in
    the order of the schema; the library puts the required ones first, and a model that has learned another order would
    answer worse than without a grammar.
    """

    def visit(self, schema: Any, name: str) -> str:
        if schema is True or schema == {}:
            return str(self._add_primitive("value", PRIMITIVE_RULES["value"]))
        return str(super().visit(schema, name))

    def _add_primitive(self, name: str, rule: BuiltinRule) -> str:
        return str(super()._add_primitive(name, CHARACTER if rule is PRIMITIVE_RULES["char"] else rule))

    def _format_literal(self, literal: str) -> str:
        return quote(json.dumps(json.loads(literal), ensure_ascii=False))  # it is given as JSON

    def _build_object_rule(
        self, properties: list[tuple[str, Any]], required: set[str], name: str, additional_properties: Any
    ) -> str:
        prefix = f"{name}-" if name else ""
        after, first = "", ""  # what may follow: after a field; at the beginning of the object
        if additional_properties is True or isinstance(additional_properties, dict):
            value = self.visit(additional_properties, f"{prefix}other-value")
            key = self._add_primitive("string", PRIMITIVE_RULES["string"])
            pair = self._add_rule(f"{prefix}other-kv", f'{key} ":" space {value}')
            after, first = f'("," space {pair})*', f'({pair} ("," space {pair})*)?'
        for key, schema in reversed(properties):
            value = self.visit(schema, prefix + key)
            pair = self._add_rule(
                f"{prefix}{key}-kv", f'{self._format_literal(json.dumps(key))} space ":" space {value}'
            )
            following = self._add_rule(f"{prefix}{key}-after", after) if after else ""
            if key in required:
                after, first = f'"," space {pair} {following}', f"{pair} {following}"
            else:
                after = f'("," space {pair})? {following}'
                first = f"({pair} {following} | {first})" if first else f"({pair} {following})?"
        return f'"{{" space {first} "}}" space'


def from_schema(path: str | Path) -> str:
    """Return the grammar of JSON that a schema allows; fields are in the schema's order, unknown ones only if it names
    `additionalProperties`. Limits of numbers and formats other than date and time are not part of it.

    Raises GradusError if llama-cpp-python's converter cannot take the schema.
    """
    schema = read_schema(path)
    try:
        converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
        converter.visit(converter.resolve_refs(schema, "schema"), "")
        grammar = str(converter.format_grammar())
    except Exception as error:  # it raises whatever it stumbles over
        raise GradusError(
            f"{path}: llama.cpp's converter cannot make a grammar of this schema ({first_line(error)}). "
            "Simplify the schema, or write the grammar yourself and name its file in `constrained`."
        ) from None
    return _checked(grammar, path)


def from_labels(labels: Iterable[str], place: str | Path) -> str:
    """Return the grammar of answers that are one of these labels; `place`: the file that they are from."""
    known = sorted({label.strip() for label in labels} - {""})
    if not known:
        raise GradusError(f"{place}: no labels; `constrained: labels` needs rows with responses")
    return _checked(f"root ::= {' | '.join(map(quote, known))}", place)


def from_commands(commands: Iterable[str], place: str | Path) -> str:
    """Return the grammar of commands that the AWS CLI has: any operation of these commands' services, with its options
    and those global ones that occur in these commands (a model repeats what it does not know). `place`: their file.

    Values are free, except for those that make a shell do something else (WORDS).
    """
    from scripts.tasks.aws_model import GLOBAL_OPTIONS, operations  # loads botocore

    services, used = set[str](), set[str]()
    for text in commands:
        with suppress(ValueError):  # not a command
            command = parse_command(text)
            services.add(command.service)
            used.update(name for name, _ in command.options)
    common = GLOBAL_OPTIONS & used
    tables = {service: table for service in sorted(services) if (table := operations(service))}
    if not tables:
        raise GradusError(f"{place}: no `aws …` commands; `constrained: commands` needs rows with such responses")
    rules, sets = list[str](), dict[frozenset[str], str]()  # operations with the same options share a rule
    for number, table in enumerate(tables.values()):
        ways = (
            f"{quote(name)} {sets.setdefault(options, f'rest-{len(sets)}')}" for name, options in sorted(table.items())
        )
        rules.append(f"service-{number} ::= {' | '.join(ways)}")
    for options, name in sets.items():
        known = " | ".join(map(quote, sorted(options | common)))
        rules.append(f'{name} ::= value* (" " ({known}) ("=" word)? value*)*' if known else f"{name} ::= value*")
    starts = (f"{quote(f'{service} ')} service-{number}" for number, service in enumerate(tables))
    return _checked("\n".join([f'root ::= "aws " ({" | ".join(starts)})', *rules]) + WORDS, place)


def from_file(path: str | Path) -> str:
    """Return the grammar in a file."""
    try:
        grammar = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise GradusError(f"{path}: not a text file in UTF-8; `constrained` takes a grammar in GBNF") from None
    except OSError as error:
        raise GradusError(f"{path}: cannot read the grammar ({error.strerror}); correct `constrained`") from None
    return _checked(grammar, path)


def right_answers(train: str | Path) -> Iterator[str]:
    """Yield all right responses of a run's training rows. Raises GradusError if the file is another."""
    try:
        yield from (right.response for record in read_records(train) for right in record.versions())
    except (TypeError, AttributeError):
        raise GradusError(f"{train}: these are not a run's rows; name results/<run>/curriculum/train.jsonl") from None


def find_grammar(constrained: str | None, given: Any) -> str | None:
    """Return the grammar that a model's option `constrained` asks for; None without it.

    given: the job's input with `schema`, `train` (whose responses are the labels or commands) or `grammar`, whichever
    it needs.
    """
    match constrained:
        case None:
            return None
        case "schema":
            return from_schema(given.schema)
        case "labels":
            return from_labels(right_answers(given.train), given.train)
        case "commands":
            return from_commands(right_answers(given.train), given.train)
        case _:
            return from_file(given.grammar)


def _checked(grammar: str, place: str | Path) -> str:
    reason = run_isolated(f"compiling the grammar of {place}", compile_grammar, grammar)
    if reason:
        raise GradusError(
            f"{place}: llama.cpp cannot compile the grammar ({reason}). "
            "Correct it; https://github.com/ggml-org/llama.cpp/tree/master/grammars describes the notation."
        )
    return grammar


def compile_grammar(grammar: str) -> str:
    """Return why llama.cpp cannot compile a grammar; empty if it can. Run this isolated: it takes over stderr."""
    if not grammar.strip():
        return "it is empty"
    told: list[str] = []
    note = llama_cpp.llama_log_callback(lambda level, text, _: told.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(note, None)
    with tempfile.TemporaryFile() as errors:  # the parser writes there
        os.dup2(errors.fileno(), 2)
        sampler = llama_cpp.llama_sampler_init_grammar(None, grammar.encode(), b"root")
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if sampler:
        return ""
    error = text.partition("error parsing grammar: ")[2].partition(f"\n\n{grammar}")[0]
    what, _, rest = error.partition(" at ")
    if rest and grammar.endswith(rest):
        return f"line {grammar[: -len(rest)].count(chr(10)) + 1}: {what}"
    return (what or told[0]).strip()[:200]


def main() -> None:
    """Print the grammar of a run's labels or commands; the command line names which, and the training rows."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("labels", "commands"):
        sys.exit(
            "Gradus: python -m scripts.evaluate.grammar labels results/<run>/curriculum/train.jsonl (or commands …)"
        )
    try:
        print(find_grammar(sys.argv[1], SimpleNamespace(train=sys.argv[2])))
    except (GradusError, OSError) as error:
        sys.exit(f"Gradus: {error}")


if __name__ == "__main__":
    main()
