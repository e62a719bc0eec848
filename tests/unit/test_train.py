"""Training: the label mask, the step, NF4 and its trap. On a tiny random llama, so seconds."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.train.model import LoraParams, attach_adapter, keep_autograd_path, load_base
from scripts.train.round_base import round_base
from scripts.train.train_phase import make_dataset
from scripts.train.trainer import IGNORED, collate, completion_loss, encode, micro_batches

LORA = LoraParams(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")


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


@pytest.fixture(scope="module")
def rounded(base, tmp_path_factory):
    """The base rounded to NF4, expanded in bf16."""
    folder = tmp_path_factory.mktemp("rounded") / "base-nf4"
    round_base(base, folder)
    return folder


def adapted(folder, packed):
    torch.manual_seed(0)
    model = attach_adapter(load_base(folder, "cpu", "eager", packed), LORA, None, seed=1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: then lora_A would have no gradient to compare
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.mark.parametrize("packed", [True, False])
def test_an_evaluation_before_a_step_changes_no_gradient(base, rounded, contract, packed):
    """The trap of bitsandbytes on CPUs with AVX512-BF16: see docs/training.md."""
    _, _, inputs = batch(base, contract, PAIRS)
    fresh, evaluated = (adapted(base if packed else rounded, packed) for _ in range(2))
    evaluated.eval()
    with torch.no_grad():
        completion_loss(evaluated, inputs)
    expected, found = gradients(fresh, inputs), gradients(evaluated, inputs)
    assert expected.keys() == found.keys()
    assert len(expected) == 2 * 7 * 2
    for name, gradient in expected.items():
        assert gradient.abs().sum() > 0, name
        assert torch.equal(gradient, found[name]), name


def test_the_rounded_base_holds_the_numbers_of_the_packed_one(base, rounded, contract):
    _, _, inputs = batch(base, contract, PAIRS)
    packed, unpacked = adapted(base, True), adapted(rounded, False)
    assert completion_loss(packed, inputs).item() == completion_loss(unpacked, inputs).item()
    one, other = gradients(packed, inputs), gradients(unpacked, inputs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert keep_autograd_path(unpacked) == 0 < keep_autograd_path(packed)


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
