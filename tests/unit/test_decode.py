"""Greedy decoding of many prompts and constrained decoding, on a tiny random llama with a vocabulary of bytes."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from scripts.common.errors import GradusError
from scripts.common.generate import render_prompts
from scripts.common.io import write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.records import Record
from scripts.common.shots import shots
from scripts.common.strict_json import check_schema
from scripts.evaluate.answer import fit_prompts
from scripts.evaluate.grammar import find_grammar, from_commands, from_file, from_labels, from_schema
from scripts.fidelity.quant_loss import compare_gguf
from scripts.fidelity.reference_logits import write_logits
from scripts.tasks.aws_commands import parse_command
from scripts.tasks.aws_model import is_valid
from tests.unit.conftest import CHATML

WIDTH, CONTEXT = 32, 1024
PROMPTS = ["Request: " + text for text in ("a", "list users", "b" * 40, "hello", "xyz", "c", "delete", "b" * 39, "dd")]
SCHEMA = {
    "type": "object",
    "required": ["kind"],
    "properties": {
        "name": {"type": "string", "maxLength": 3},
        "kind": {"enum": ['say "hi"', "a\\b", "São 😀"]},
        "count": {"type": "integer"},
        "more": True,
    },
}


def write_model(path, seed=20, template=CHATML, bos=None):
    """Write a llama of one layer in fp32, whose weights are large enough that one token leads clearly."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet())]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * 256)
    writer.add_token_merges(["a a"])  # llama.cpp wants the list
    writer.add_eos_token_id(2)
    writer.add_chat_template(template)
    if bos is not None:
        writer.add_bos_token_id(0)
        writer.add_add_bos_token(bos)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    numbers = np.random.default_rng(seed)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", numbers.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32))
    for name in ("token_embd", "output"):
        weight = numbers.normal(0, 1, (len(tokens), WIDTH)).astype(np.float32)
        weight[2] *= 1.5  # answers end
        weight[3:] *= np.array([[1 if "!" <= token <= "~" else 0.01] for token in tokens[3:]], np.float32)
        writer.add_tensor(f"{name}.weight", weight)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("model") / "tiny.gguf")
    write_model(path)
    return path


def answers(path, sequences, grammar=None, prompts=PROMPTS, max_tokens=60, names=None, cache=2**30):
    """Return the answers and, of each step of decoding, how many answers it went on with."""
    from scripts.common import generate
    from scripts.common.decode import Decoder

    steps, decode = [], Decoder.decode

    def counted(self, tokens, positions, ids, wanted):
        if isinstance(ids, range):
            steps.append(len(tokens))
        return decode(self, tokens, positions, ids, wanted)

    Decoder.decode = counted
    generate.CACHE_BYTES = cache
    return generate.answer_all(path, prompts, max_tokens, sequences, 1, grammar, names), steps


def test_an_answer_that_ends_makes_room_at_once_and_changes_no_other(model):
    alone, _ = run_isolated("decoding", answers, model, 1)
    lengths = [answer.tokens for answer in alone]
    assert [answer.stopped for answer in alone] == [length < 60 for length in lengths]
    assert len(set(lengths)) > 5  # so the answers end at different times
    for sequences in (2, 3, 16):
        together, steps = run_isolated("decoding", answers, model, sequences)
        assert together == alone
        assert steps == sorted(steps, reverse=True)  # no place stays empty while a prompt waits
        # the first token of each answer comes with its prompt, the others with a step
        assert sum(steps) == sum(answer.tokens - (not answer.stopped) for answer in alone)


def test_a_prompt_alone_or_twice_or_none_is_answered(model):
    (once,), _ = run_isolated("decoding", answers, model, 4, prompts=PROMPTS[:1])
    twice, _ = run_isolated("decoding", answers, model, 4, prompts=PROMPTS[:1] * 2)
    assert twice == [once, once]
    assert run_isolated("decoding", answers, model, 4, prompts=[]) == ([], [])


def test_a_long_prefix_is_shared_and_gives_the_same_answers(model):
    prompts = ["b" * 700 + end for end in "xyz!"]  # longer than one call of llama.cpp
    alone = [run_isolated("decoding", answers, model, 1, prompts=[prompt])[0][0] for prompt in prompts]
    assert len({answer.text for answer in alone}) > 1
    assert run_isolated("decoding", answers, model, 2, prompts=prompts)[0] == alone


def test_the_cache_limits_how_many_are_decoded_together(model):
    alone, _ = run_isolated("decoding", answers, model, 1)
    token = 2 * 2 * (16 + 16)  # bytes in fp16: 2 heads with keys and values of 16
    found, steps = run_isolated("decoding", answers, model, 9, cache=3 * token * (49 + 60))
    assert found == alone
    assert max(steps) == 3
    assert max(run_isolated("decoding", answers, model, 9, cache=1)[1]) == 1


def test_a_prompt_without_room_for_its_answer_is_named(model):
    with pytest.raises(GradusError, match=r"rows.csv:7: the prompt has 999 tokens; with 60 for .* more than the 1024"):
        run_isolated("decoding", answers, model, 2, prompts=["a", "b" * 999], names=["rows.csv:3", "rows.csv:7"])


@pytest.fixture
def records():
    return [Record("b" * number, "x", "qa", id=str(number)) for number in (10, 700, 900)]


def test_a_prompt_gets_as_many_examples_as_fit_with_the_answer(model, contract, records):
    """A token is a byte. The context has 1,024."""
    train = [Record("b" * 100, "b" * (10 * n), "qa", id=f"t{n}") for n in range(5)]
    near = {record.id: [row.id for row in train] for record in records}
    contract = replace(contract, system_prompt="")
    for choose in ("nearest", "fixed"):
        shown = shots(records, train, near, 4, choose)
        prompts, numbers = fit_prompts(model, contract, records, {}, True, shown, 60)
        assert numbers[0] == 4 > numbers[1] > numbers[2] == 0
        assert max(map(len, prompts[:2])) < 1024
        kept = shown[0][records[1].id]
        kept = kept[4 - numbers[1] :] if choose == "nearest" else kept[: numbers[1]]
        assert all(f"user\n{row.prompt}<" in prompts[1] for row in kept)
        assert [f"assistant\n{row.response}<" in prompts[1] for row in kept] == [True] * numbers[1]
    alone, numbers = fit_prompts(model, contract, records, {}, True, [], 60)
    assert numbers == [0, 0, 0] and alone[2] == prompts[2]
    with pytest.raises(GradusError, match="900: the prompt has .* tokens; with 400 for the answer"):
        run_isolated("decoding", answers, model, 2, prompts=prompts, max_tokens=400, names=["10", "700", "900"])


REFUSES = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"


def test_the_template_of_an_own_gguf_that_refuses_a_conversation_is_named_with_a_way_out(tmp_path, contract, records):
    path = tmp_path / "own.gguf"
    write_model(path, template=REFUSES)
    with pytest.raises(GradusError) as error:
        fit_prompts(path, contract, records, {}, True, [], 60)
    for part in ("own.gguf: ", "the roles system, user: no system", 'system_prompt: ""'):
        assert part in str(error.value)
    assert fit_prompts(path, contract, records, {"system_prompt": ""}, True, [], 60)[0] == ["", "", ""]
    write_model(path, template="{% for %}")
    with pytest.raises(GradusError, match="own.gguf: its chat template fails"):
        fit_prompts(path, contract, records, {}, True, [], 60)


@pytest.mark.parametrize("template", ["{{ messages[0].content }}", "{{ bos_token }}x"])
def test_an_own_gguf_gets_the_bos_token_that_its_vocabulary_wants_once(tmp_path, template):
    asked = [[{"role": "user", "content": "hi"}]]
    for wanted in (True, False):
        write_model(tmp_path / "own.gguf", template=template, bos=wanted)
        (prompt,) = render_prompts(tmp_path / "own.gguf", None, asked)
        assert prompt.count("<|endoftext|>") == (1 if wanted or "bos" in template else 0)
        assert prompt.removeprefix("<|endoftext|>") in ("hi", "x")


def test_labels_constrain_answers(model, tmp_path):
    labels = ['say "hi"', "a\\b", "ab", "abc", "São 😀", " ab "]
    found, _ = run_isolated("decoding", answers, model, 3, from_labels(labels, "rows.csv"))
    assert {answer.text for answer in found} <= set(labels[:-1])
    assert len({answer.text for answer in found}) > 1
    assert all(answer.stopped for answer in found)


def test_a_schema_constrains_answers_and_keeps_its_order(model, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    found, _ = run_isolated("decoding", answers, model, 3, from_schema(path))
    values = [json.loads(answer.text) for answer in found if answer.stopped]
    assert len(values) > 5
    for value in values:
        assert not check_schema(value, SCHEMA)
        assert list(value) == [name for name in SCHEMA["properties"] if name in value]
    assert any(list(value)[0] == "name" for value in values)


@pytest.mark.parametrize("required", [[], ["a"], ["b"], ["a", "c"], ["a", "b", "c"]])
@pytest.mark.parametrize("other", [None, False, True, {"type": "integer"}])
def test_a_grammar_takes_exactly_what_its_schema_allows(model, tmp_path, required, other):
    schema = {"type": "object", "properties": dict.fromkeys("abc", {"const": 1}), "required": required}
    schema |= {} if other is None else {"additionalProperties": other}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    keys = [keys for count in range(4) for keys in itertools.combinations("abc", count)]
    values = [dict.fromkeys([*chosen, *more], 1) for chosen in keys for more in ((), ("z",), ("y", "z"))]
    allowed = [
        not check_schema(value, schema | {"additionalProperties": other or False}) for value in values
    ]  # a grammar without additionalProperties takes no other fields
    assert 0 < sum(allowed) < len(values) or (not required and other)
    texts = [json.dumps(value) for value in values]
    wrong = ["{,}", '{"a": 1,}', '{"a" 1}']
    if not other:  # an unknown field may have any name and place
        wrong += ['{"a": 2}', '{"c": 1, "b": 1, "a": 1}', '{"a": 1, "a": 1}']
    assert run_isolated("matching", matches, model, from_schema(path), texts + wrong) == allowed + [False] * len(wrong)


COMMANDS = [
    "aws s3 cp a.txt s3://bucket/a.txt --acl public-read",
    "aws s3 sync . s3://bucket --exclude '*.tmp' --exclude \"it's\" --delete",
    "aws s3 cp - s3://bucket/a",
    "aws ec2 wait instance-running --instance-ids i-1 i-2",
    "aws ec2 describe-vpcs --filters Name=isDefault,Values=true --query Vpcs[0].VpcId --output text",
    "aws ec2 run-instances --image-id ami-1 --count 2 --region us-east-1",
    "aws ec2 create-customer-gateway --type ipsec.1 --public-ip <IP_ADDRESS_1> --bgp-asn -1",
    "aws iam list-users",
    "aws iam list-users --max-items 3 --page-size=2",
    "aws lambda invoke --function-name 'f' --payload '{\"a\": \"$(b)`c`\"}' --qualifier \\$LATEST out.json",
    'aws lambda invoke --function-name f --payload "{\\"a\\": \\"\\$(b)\\", \\"c\\": 5$}" out.json',
    "aws ses send-email --from '' --subject \"\"",
    "aws iam create-user --user-name a! --tags \"Key=b! c,Value=d\" 'Key=!e,Value=f' --query Users[?a!='b']",
]
NO_COMMANDS = [
    "aws s3 copy a s3://b/a",
    "aws s3 cp a s3://b/a --recurse",
    "aws ec2 wait instance-gone --instance-ids i-1",
    "aws ec2 describe-vpc",
    "aws ec2 describe-vpcs --vpc-id vpc-1",
    "aws iam",
    "aws sqs list-queues",  # not of these rows' services
    "aws iam list-users --no-verify-ssl",  # no row has this global option
    "aws configure forget region",
    "aws iam get-user --max-items 3",  # it gives no pages
    "aws ses verify-email-address --email-address a@example.com",  # in the service model, but not in the CLI
    "aws config describe-config-rules",  # the CLI's name is configservice
    "aws s3 list-buckets",  # of s3api
]
UNSAFE = r"""
| sh
; ls
&& ls
> a
< a
<a; ls>
<a> b
<A1> a
'a
`ls`
"a`ls`"
(ls)
$(ls)
a$(ls)
"$(ls)"
"a$$$(ls)"
"\\$(ls)"
"$[x=5]"
"${ ls; }"
${x:='$(ls)'}${x@P}
"${x#'}" '}";ls;: '\'
"a!" ";ls;: "'x'"\'
!ls
a!ls
"!ls"
#a
# --dryrun
a{b,c}
'--profile' x
"--profile" x
\--profile x
-'-profile' x
''--profile x
$'--profile' x
$x--profile
"$x--profile"
-$x-profile
{--profile,}
-{-profile,}
""".strip().split("\n")
UNSAFE += ["# 'a\nls #'", '"\\\n--profile" x', "-\0-profile", "'\x03\nls'"]


def test_a_grammar_of_commands_takes_what_the_cli_has(model):
    """Of the rows' services, with the rows' global options; all are valid by the metric."""
    rows = [
        "aws s3 ls --region x --query y --output z",
        "aws ec2 describe-instances",
        "aws iam get-user",
        "aws lambda list-functions",
        "aws ses list-identities",
        "aws config x",
        "aws nosuch x",
        "aws --output json configure list",
        "?",
    ]
    unsafe = [f"aws iam list-users {end}" for end in UNSAFE]
    grammar = from_commands(rows, "rows.csv")
    expected = [True] * len(COMMANDS) + [False] * len(NO_COMMANDS + unsafe)
    assert run_isolated("matching", matches, model, grammar, COMMANDS + NO_COMMANDS + unsafe) == expected
    assert all(is_valid(parse_command(text)) for text in COMMANDS)
    found, _ = run_isolated("decoding", answers, model, 3, grammar)
    known = ("s3", "ec2", "iam", "lambda", "ses", "configure")
    assert all(answer.text.startswith(tuple(f"aws {service} " for service in known)) for answer in found)


def test_a_grammar_can_be_printed(tmp_path):
    rows = [Record("a", "aws iam get-user", "command"), Record("b", "?", "command", accepted=["aws sts x"])]
    write_jsonl(tmp_path / "train.jsonl", (row.to_json() for row in rows))
    command = [sys.executable, "-m", "scripts.evaluate.grammar"]
    found = subprocess.run([*command, "commands", tmp_path / "train.jsonl"], capture_output=True, text=True)
    assert found.returncode == 0 and found.stdout.startswith('root ::= "aws " ("iam " service-0 | "sts " service-1)')
    wrong = subprocess.run([*command, "all", tmp_path / "train.jsonl"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "labels results/<run>/curriculum/train.jsonl" in wrong.stderr
    for row in ({"question": "a"}, 1):
        write_jsonl(tmp_path / "other.jsonl", [row])
        wrong = subprocess.run([*command, "commands", tmp_path / "other.jsonl"], capture_output=True, text=True)
        assert wrong.returncode == 1 and "these are not a run's rows" in wrong.stderr


def matches(path, grammar, texts):
    """Return whether a grammar takes each text, byte by byte, and can end after it."""
    from scripts.common.constrain import Grammar
    from scripts.common.decode import Decoder

    decoder, found = Decoder(path, 1, 1, 8), []
    for text in texts:
        state = Grammar(decoder.vocab, grammar)
        for token in [*decoder.tokenize(text), 2]:
            logits = np.full(decoder.size, -np.inf, np.float32)
            logits[token] = 1
            taken = state.choose(logits) == token
            if not taken:
                break
            if token != 2:
                state.accept(token)
        found.append(taken)
    return found


def test_the_choice_is_the_likeliest_allowed_token(model):
    """Also where the likeliest tokens are asked first, and of equal ones the first."""
    assert run_isolated("choosing", choices, model) == [True] * 40


def choices(path):
    from scripts.common.constrain import Grammar
    from scripts.common.decode import Decoder

    decoder = Decoder(path, 1, 1, 8)
    allowed = decoder.tokenize("0123456789")
    numbers = np.random.default_rng(1)
    found = []
    for _ in range(40):
        logits = numbers.integers(0, 40, decoder.size).astype(np.float32)  # many are equal
        logits[allowed] -= numbers.integers(0, 40)
        expected = min(allowed, key=lambda token: (-logits[token], token))
        found.append(Grammar(decoder.vocab, "root ::= [0-9]").choose(logits) == expected)
    return found


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "it is empty"),
        ('root ::= "a"\nother = "b"', "line 2: expecting ::="),
        ('root ::= "a" | other', "Undefined rule identifier 'other'"),
        ('start ::= "a"', "does not contain a 'root' symbol"),
        ('root ::= root "a" | "b"', "left recursion"),
    ],
)
def test_a_grammar_that_cannot_be_compiled_is_refused_with_file_and_reason(tmp_path, grammar, reason):
    path = tmp_path / "my.gbnf"
    path.write_text(grammar)
    with pytest.raises(GradusError, match=f"my.gbnf: llama.cpp cannot compile the grammar .*{reason}"):
        from_file(path)


def test_the_option_finds_its_grammar(tmp_path):
    rows = [Record("a", "ec2", "classify"), Record("b", "s3", "classify"), Record("c", "ec2", "classify")]
    write_jsonl(tmp_path / "train.jsonl", [row.to_json() for row in rows])
    (tmp_path / "schema.json").write_text('{"const": 1}')
    (tmp_path / "my.gbnf").write_text('root ::= "yes"')
    files = {"train": "train.jsonl", "schema": "schema.json", "grammar": "my.gbnf"}
    given = SimpleNamespace(**{name: str(tmp_path / file) for name, file in files.items()})
    assert find_grammar(None, given) is None
    assert find_grammar("labels", given) == 'root ::= "ec2" | "s3"'
    assert 'root ::= "1"' in find_grammar("schema", given)
    assert find_grammar("any/my.gbnf", given) == 'root ::= "yes"'


def test_other_bad_constraints_are_refused(tmp_path):
    with pytest.raises(GradusError, match=r"no.gbnf: cannot read the grammar \(No such file"):
        from_file(tmp_path / "no.gbnf")
    (tmp_path / "bytes.gbnf").write_bytes(b"\xff\xfe")
    with pytest.raises(GradusError, match="bytes.gbnf: not a text file in UTF-8"):
        from_file(tmp_path / "bytes.gbnf")
    with pytest.raises(GradusError, match="train.jsonl: no labels"):
        from_labels(["", " "], "train.jsonl")
    with pytest.raises(GradusError, match="train.jsonl: no `aws …` commands"):
        from_commands(["aws nosuch x", "ls", ""], "train.jsonl")
    for schema, reason in (
        ({"properties": {"a": {"type": "string", "pattern": "x"}}}, "Pattern must start"),
        ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "remote"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "Error resolving ref"),
    ):
        (tmp_path / "schema.json").write_text(json.dumps(schema))
        with pytest.raises(GradusError, match=f"schema.json: llama.cpp's converter cannot make .*{reason}"):
            from_schema(tmp_path / "schema.json")


def test_each_way_of_the_benchmark_answers_the_same_rows(model):
    from scripts.bench.answering import LOOP, build, in_jobs, race

    asked = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    found = race(*build(model, asked, 8, 3, [2, 3], 1), rounds=1)  # two threads would wait for other processes
    assert list(found["ways"]) == [LOOP, "1 jobs of one thread, 3 sequences each", "2 sequences", "3 sequences"]
    assert {way["same_as_loop"] for way in found["ways"].values()} == {len(PROMPTS)}
    assert len({way["answer_tokens"] for way in found["ways"].values()}) == 1
    assert all(way["seconds"] > 0 for way in found["ways"].values())
    assert found["rows"] == len(PROMPTS)
    assert 0 < found["prompt_tokens_computed"] < found["prompt_tokens"]
    assert found["ways"][LOOP]["times_as_fast"] == 1
    assert all(way["share_of_benchmark"] > 0 for way in found["ways"].values())
    in_two = in_jobs(model, PROMPTS, 8, 3, 2)
    assert in_two == run_isolated("decoding", answers, model, 3, max_tokens=8)[0]


def test_quants_are_compared_with_logits_that_are_computed_once(model, tmp_path):
    rows = [([3, 9, 40, 7, 12], 2), ([5, 3, 77], 1)]
    stored = tmp_path / "bf16.logits.npy"
    run_isolated("storing", write_logits, model, rows, 1, stored)
    itself = run_isolated("comparing", compare_gguf, str(stored), None, rows, 1)
    assert itself == run_isolated("comparing", compare_gguf, str(stored), model, rows, 1)  # row by row the same logits
    assert (itself["tokens"], itself["max_kl"], itself["top1_agreement"]) == (5, 0, 1)
    write_model(tmp_path / "other.gguf", seed=21)
    other = run_isolated("comparing", compare_gguf, str(stored), str(tmp_path / "other.gguf"), rows, 1)
    assert other["mean_kl"] > 0.1
    assert other["reference_perplexity"] == itself["perplexity"]
