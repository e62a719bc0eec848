"""Let a language model behind an API judge answers by a rubric, and which of two answers is better.

In: answers, records, the chat contract, the rubric, the advice (which names the strongest contender); the key from the
environment. Out: a line for each judged answer, a line for each pair of answers (asked in both orders), and what is
known of the judge: model, parameters, hashes of rubric and prompts, tokens, cost.

A reply that cannot be read is asked for once more. Replies are kept as those of other endpoints are, so an error loses
none of them, and another rubric asks everything again.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.answers import sample
from scripts.common.asking import ask_all, describe_server, find_cost, make_parameters
from scripts.common.chat import ChatContract, read_contract
from scripts.common.endpoint_client import Reply
from scripts.common.hashing import sha256_json, sha256_text
from scripts.common.io import read_json, read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.judge.questions import FORMS, Question, conversation, read_rubric, system_prompt, texts_of
from scripts.judge.replies import COMPLAINTS, Judgment, read_judgment

MAX_TOKENS = 512  # of a reply, if the config does not say otherwise: room for a reason
Answers = Mapping[tuple[str, str], Mapping[str, str]]  # {(model, split): {id of a record: answer}}
Pair = Sequence[str]  # two models


def choose(
    models: Sequence[str] | None, pairs: Sequence[Pair] | None, shown: Sequence[str | None]
) -> tuple[list[str], list[Pair]]:
    """Return the models to judge and the pairs to compare. `models`, `pairs`: those of the config, if any; `shown`: the
    served model, that of `compare_with` and the strongest contender, where they are known.
    """
    judged = list(models or dict.fromkeys(name for name in shown if name))
    return judged, list(pairs) if pairs is not None else [[judged[0], other] for other in judged[1:]]


def ask(
    settings: Mapping[str, Any], rubric: str, questions: Sequence[Question]
) -> tuple[list[Judgment], dict[str, Any]]:
    """Return the judge's judgments, in order, and what is known of it. `settings`: `judge.endpoint` of the config.

    Raises GradusError if the server fails; what it has replied is kept.
    """
    parameters = make_parameters(settings, MAX_TOKENS)
    replies: dict[str, Reply] = {}  # by the file in which each is kept: equal questions are asked and paid for once

    def put(numbers: Sequence[int], complaints: Mapping[int, str]) -> list[str]:
        wanted = [conversation(questions[n], rubric, complaints.get(n, "")) for n in numbers]
        given, files, cached = ask_all(settings, parameters, [questions[n].name for n in numbers], wanted)
        logging.info("%d replies, %d of them kept from earlier runs", len(given), cached)
        replies.update(zip(files, given, strict=True))
        return [reply.text for reply in given]

    everything = range(len(questions))
    first = [_judgment(question.kind, text) for question, text in zip(questions, put(everything, {}), strict=True)]
    unread = [n for n in everything if first[n].values is None]
    again = put(unread, {n: COMPLAINTS[first[n].failures[0]] for n in unread}) if unread else []
    judgments = {
        n: _judgment(questions[n].kind, text, first[n].failures) for n, text in zip(unread, again, strict=True)
    }
    return [judgments.get(n, first[n]) for n in everything], {
        **describe(settings, parameters, rubric, list(replies.values())),
        **_total(list(replies.values()), settings["price"]),
        "kept": sorted(replies),
    }


def _judgment(kind: str, text: str, failures: tuple[str, ...] = ()) -> Judgment:
    found = read_judgment(kind, text)
    if isinstance(found, str):
        return Judgment(None, (*failures, found), text)
    return Judgment(found, failures)


def describe(
    settings: Mapping[str, Any], parameters: Mapping[str, Any], rubric: str, replies: Sequence[Reply]
) -> dict[str, Any]:
    """Return who judges and by what, with a hash over all of it. The judge's address is not part of it."""
    judge = {
        **describe_server(settings, parameters, replies),
        "rubric_sha256": sha256_text(rubric),
        "prompts_sha256": {kind: sha256_text(system_prompt(kind, rubric)) for kind in FORMS},
    }
    return {**judge, "sha256": sha256_json(judge), "rubric": rubric}


def _total(replies: Sequence[Reply], price: Mapping[str, float] | None) -> dict[str, Any]:
    rows = [vars(reply) for reply in replies]

    def total(field: str) -> int | None:
        counts = [row[field] for row in rows]
        return None if None in counts else sum(counts)

    return {
        "replies": len(rows),
        "prompt_tokens": total("prompt_tokens"),
        "tokens": total("tokens"),
        "cost": find_cost(rows, price),
    }


def judge(
    settings: Mapping[str, Any],
    rubric: str,
    contract: ChatContract,
    records: Mapping[str, Sequence[Record]],
    answers: Answers,
    models: Sequence[str],
    pairs: Sequence[Pair],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Return the lines of answers.jsonl and pairs.jsonl, and asked.json. `records`: those to judge, by split.

    A pair of equal answers is a tie that the judge is not asked about (`same`).
    """
    singles, doubles, questions = [], [], list[Question]()
    for split, rows in records.items():
        for model in models:
            for record in rows:
                singles.append(({"model": model, "split": split, "id": record.id}, len(questions)))
                texts = texts_of(contract, record, answer=answers[model, split][record.id])
                questions.append(Question("answer", f"{record.id} ({record.source}), {model}", texts))
        for a, b in pairs:
            for record in rows:
                first, second = answers[a, split][record.id], answers[b, split][record.id]
                same = first.strip() == second.strip()
                doubles.append(({"a": a, "b": b, "split": split, "id": record.id, "same": same}, len(questions)))
                for one, other in [] if same else [(first, second), (second, first)]:
                    texts = texts_of(contract, record, A=one, B=other)
                    questions.append(Question("pair", f"{record.id} ({record.source}), {a} and {b}", texts))
    judgments, about = ask(settings, rubric, questions)
    return (
        [{**row, **_line(judgments[n], "faithfulness", "pass")} for row, n in singles],
        [{**row, **_compared([] if row["same"] else judgments[n : n + 2])} for row, n in doubles],
        about,
    )


def _line(judgment: Judgment, *fields: str) -> dict[str, Any]:
    values = judgment.values or {}
    said = {field: values.get(field) for field in (*fields, "reason")}
    return {**said, "failures": list(judgment.failures), "reply": judgment.reply}


def _compared(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Return {winner, orders}: the winner is `a` or `b` if it wins in both orders, else `tie`; None if a reply is
    unreadable. `orders`: what was replied with `a` first, then with `b` first; none for equal answers.
    """
    orders = []
    for judgment, names in zip(judgments, ({"A": "a", "B": "b"}, {"A": "b", "B": "a"}), strict=False):
        line = _line(judgment, "better")
        orders.append({**line, "better": names.get(line["better"], line["better"])})
    better = [order["better"] for order in orders]
    if None in better:
        return {"winner": None, "orders": orders}
    return {"winner": better[0] if better and better[0] == better[1] else "tie", "orders": orders}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # not a line for each request
        params = job.params
        strongest = read_json(job.input.advice)["strongest"] if job.input.get("advice") else None
        models, pairs = choose(params.models, params.pairs, [*params.shown, strongest])
        answers = {
            key: {row["id"]: row["text"] for row in read_jsonl(path)}
            for key, path in zip(map(tuple, params.answered), job.input.answers, strict=True)
        }
        records = {
            split: sample(
                [
                    record
                    for record in read_records(path)
                    if all(record.id in given for (_, answered), given in answers.items() if answered == split)
                ],
                params.max_rows,
            )
            for split, path in zip(params.splits, job.input.records, strict=True)
        }
        judged, compared, about = judge(
            job.config["judge"]["endpoint"],
            read_rubric(job.input.rubric),
            read_contract(job.input.contract),
            records,
            answers,
            models,
            pairs,
        )
        write_jsonl(job.output.answers, judged)
        write_jsonl(job.output.pairs, compared)
        write_json(job.output.asked, about)
