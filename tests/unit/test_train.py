"""Training: the label mask, the step, NF4 and its trap. On a tiny random llama, so seconds."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError
from scripts.common.io import write_jsonl
from scripts.common.records import Record
from scripts.export.merge import merge
from scripts.train.model import LoraParams, attach_adapter, keep_autograd_path, load_base
from scripts.train.train_phase import TrainParams, make_dataset, schedule_position, train_phase
from scripts.train.trainer import IGNORED, collate, completion_loss, encode, micro_batches

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LORA = LoraParams(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")
PARAMS = TrainParams(
    threads=2,
    lora={"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "all-linear"},
    learning_rate=0.01,
    schedule="cosine",
    schedule_spans="all",
    warmup_share=0.1,
    weight_decay=0.0,
    max_gradient_norm=1.0,
    batch_size=4,
    micro_batch_tokens=128,
    max_length=128,
    unpack_nf4=True,
    attention="eager",
    report_to="none",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random llama with a byte-level tokenizer, as prepare_base would leave one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("base")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: n for n, token in enumerate(special + letters)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def contract():
    return ChatContract("Be brief.", CHATML, "<|im_end|>", 2, "<|endoftext|>", 0)


def batch(base, contract, pairs):
    tokenizer = AutoTokenizer.from_pretrained(base)
    records = [Record(prompt, response, "qa") for prompt, response in pairs]
    rows = make_dataset(records, tokenizer, contract, 256)
    return tokenizer, rows, collate([rows[i] for i in range(len(rows))], contract.pad_token_id)


PAIRS = [("hi", "aws s3 ls"), ("a longer request than that", "aws iam list-users --max-items 3")]


def test_prompt_and_padding_are_masked_and_the_end_of_turn_is_trained(base, contract):
    tokenizer, _, inputs = batch(base, contract, PAIRS)
    for row, (_, response) in enumerate(PAIRS):
        labels = inputs["labels"][row]
        trained = labels[labels != IGNORED].tolist()
        assert tokenizer.decode(trained) == response + "<|im_end|>"
        assert (labels[inputs["attention_mask"][row] == 0] == IGNORED).all()


def test_the_prompt_is_what_transformers_renders(base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked, _ = encode(tokenizer, contract, 'braces {{x}} and "quotes"', "r")
    whole = tokenizer.apply_chat_template(
        contract.messages('braces {{x}} and "quotes"'), add_generation_prompt=True, tokenize=False
    )
    assert tokenizer.decode(asked) == whole
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


def test_a_row_too_long_is_refused_not_cut(base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    with pytest.raises(GradusError, match=r"longer than train.max_length \(32 tokens\): page#1"):
        make_dataset([Record("x" * 99, "y", "qa", source="page#1")], tokenizer, contract, 32)


def test_completion_loss_is_the_models_own_loss(base, contract):
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    _, _, inputs = batch(base, contract, PAIRS)
    ours = completion_loss(model, inputs) / (inputs["labels"] != IGNORED).sum()
    theirs = model(**inputs).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_micro_batches_hold_every_row_once_within_the_budget():
    lengths = [10, 90, 20, 30, 15, 200]
    groups = micro_batches(lengths, 100)
    assert sorted(row for group in groups for row in group) == list(range(6))
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 100 for group in groups)
    assert len(groups) == 4


def test_micro_batches_give_the_gradient_of_the_whole_batch(base, contract):
    _, _, inputs = batch(base, contract, PAIRS)
    whole = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    parts = copy.deepcopy(whole)
    completion_loss(whole, inputs).backward()
    for row in range(2):
        length = int(inputs["attention_mask"][row].sum())
        completion_loss(parts, {k: v[row : row + 1, :length] for k, v in inputs.items()}).backward()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def gradients(model, inputs):
    model.train()
    completion_loss(model, inputs).backward()
    return {name: p.grad.float() for name, p in model.named_parameters() if p.requires_grad}


def adapted(base, unpack):
    torch.manual_seed(0)
    model = attach_adapter(load_base(base, "cpu", "eager", unpack), LORA, None, seed=1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: then lora_A would have no gradient to compare
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.mark.parametrize("unpack", [True, False])
def test_an_evaluation_before_a_step_changes_no_gradient(base, contract, unpack):
    """The trap of bitsandbytes on CPUs with AVX512-BF16: see docs/training.md."""
    _, _, inputs = batch(base, contract, PAIRS)
    fresh, evaluated = adapted(base, unpack), adapted(base, unpack)
    evaluated.eval()
    with torch.no_grad():
        completion_loss(evaluated, inputs)
    expected, found = gradients(fresh, inputs), gradients(evaluated, inputs)
    assert expected.keys() == found.keys()
    assert len(expected) == 2 * 7 * 2
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0, name
        assert torch.equal(gradient, found[name]), name


def test_unpacked_nf4_weights_are_the_same_numbers(base, contract):
    _, _, inputs = batch(base, contract, PAIRS)
    packed, unpacked = adapted(base, False), adapted(base, True)
    assert completion_loss(packed, inputs).item() == completion_loss(unpacked, inputs).item()
    one, other = gradients(packed, inputs), gradients(unpacked, inputs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert keep_autograd_path(unpacked) == 0 < keep_autograd_path(packed)


def test_schedule_spans_all_phases_or_each():
    schedule = {name: {"rows": 8, "steps": steps} for name, steps in (("easy", 3), ("medium", 5), ("hard", 7))}
    assert schedule_position(schedule, "medium", "all") == (3, 15)
    assert schedule_position(schedule, "medium", "phase") == (0, 5)


@pytest.fixture(scope="module")
def trained(base, contract, tmp_path_factory):
    """Two phases of training, the first one twice, and the whole merged."""
    from scripts.common.chat import write_contract

    folder = tmp_path_factory.mktemp("train")
    rows = [Record(f"request number {n}", f"aws s3 ls s3://bucket-{n}", "command") for n in range(10)]
    write_jsonl(folder / "rows.jsonl", (r.to_json() for r in rows))
    write_jsonl(folder / "valid.jsonl", (r.to_json() for r in rows[:2]))
    write_contract(folder / "contract.json", contract)
    schedule = {name: {"rows": 10, "steps": 3} for name in ("easy", "medium", "hard")}

    def run(name, phase, previous):
        train_phase(
            folder / "rows.jsonl",
            folder / "valid.jsonl",
            base,
            folder / "contract.json",
            schedule,
            phase,
            previous,
            1,
            PARAMS,
            folder / name,
            folder / f"{name}.jsonl",
            folder / f"{name}.json",
        )

    run("easy", "easy", None)
    run("again", "easy", None)
    run("medium", "medium", folder / "easy")
    merge(base, folder / "medium" / "adapter", folder / "merged")
    return folder


def history(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_twice_gives_the_same_bytes(trained):
    for name in ("adapter/adapter_model.safetensors", "optimizer.safetensors"):
        assert (trained / "easy" / name).read_bytes() == (trained / "again" / name).read_bytes()


def test_each_step_takes_the_next_rows_of_the_file(trained, base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    lengths = [
        sum(map(len, encode(tokenizer, contract, f"request number {n}", f"aws s3 ls s3://bucket-{n}")))
        for n in range(10)
    ]
    assert [line["tokens"] for line in history(trained / "easy.jsonl")] == [
        sum(lengths[:4]),
        sum(lengths[:8]),
        sum(lengths),
    ]


def test_schedule_and_optimizer_go_on_into_the_next_phase(trained):
    first, second = history(trained / "easy.jsonl"), history(trained / "medium.jsonl")
    rates = [line["learning_rate"] for line in first + second]
    assert rates[0] == 0
    assert max(rates) == 0.01
    assert rates[3] < 0.01
    assert rates[3:] == sorted(rates[3:], reverse=True)
    steps = {
        k: v.item() for k, v in load_file(trained / "medium" / "optimizer.safetensors").items() if k.endswith(".step")
    }
    assert set(steps.values()) == {6.0}


def test_the_adapter_goes_on_from_the_previous_phase(trained):
    one = load_file(trained / "easy" / "adapter" / "adapter_model.safetensors")
    other = load_file(trained / "medium" / "adapter" / "adapter_model.safetensors")
    moved = [name for name in one if not torch.equal(one[name], other[name])]
    assert len(moved) == len(one) == 2 * 7 * 2
    closeness = [
        torch.cosine_similarity(one[n].float().flatten(), other[n].float().flatten(), 0) for n in one if "lora_A" in n
    ]
    assert min(closeness) > 0.8


def test_merging_changes_the_adapted_layers_and_nothing_else(trained, base):
    before, after = load_file(base / "model.safetensors"), load_file(trained / "merged" / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "proj" in name}
    assert all(tensor.dtype == torch.bfloat16 for tensor in after.values())


def test_a_loss_that_is_not_a_number_stops_with_advice(trained, base, tmp_path):
    import dataclasses

    params = dataclasses.replace(PARAMS, learning_rate=1e30, warmup_share=0.0, max_gradient_norm=1e30)
    with pytest.raises(GradusError, match=r"Lower train.learning_rate"):
        train_phase(
            trained / "rows.jsonl",
            trained / "valid.jsonl",
            base,
            trained / "contract.json",
            {name: {"rows": 10, "steps": 3} for name in ("easy", "medium", "hard")},
            "easy",
            None,
            1,
            params,
            tmp_path / "out",
            tmp_path / "history.jsonl",
            tmp_path / "summary.json",
        )
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.json*"))


def test_a_pad_token_that_ends_a_turn_is_refused():
    from scripts.train.prepare_base import choose_pad_token

    tokenizer = SimpleNamespace(
        eos_token="<e>",
        pad_token="<e>",
        unk_token="<u>",
        all_special_tokens=["<e>", "<u>"],
        get_vocab=lambda: {"<e>": 0},
    )
    assert choose_pad_token(tokenizer, None) == "<u>"
    with pytest.raises(GradusError, match="end-of-turn token"):
        choose_pad_token(tokenizer, "<e>")


def test_pickled_weights_are_refused(tmp_path):
    from scripts.train.prepare_base import check_folder

    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(GradusError, match=r"no \*.safetensors weights.*pytorch_model.bin are refused"):
        check_folder(tmp_path)


def test_a_local_base_is_imported_as_it_is(base, tmp_path):
    from scripts.data.chat_contract import make_contract
    from scripts.train.prepare_base import prepare

    prepare(f"path:{base}", base, None, None, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    made = make_contract(tmp_path / "out", " Be brief. ")
    assert (made.system_prompt, made.end_of_turn_id, made.pad_token_id) == ("Be brief.", 2, 0)
    with pytest.raises(GradusError, match="control token"):
        make_contract(tmp_path / "out", "Say <|im_end|>")
    with pytest.raises(GradusError, match="not in the vocabulary"):
        prepare(f"path:{base}", base, None, "<nope>", tmp_path / "other")
    assert not (tmp_path / "other").exists()
