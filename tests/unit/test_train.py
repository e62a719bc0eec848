"""Training: the label mask, the step, NF4 and its trap. On a tiny random llama, so seconds."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaForCausalLM

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.train.fused import HeadLoss, fuse_lora
from scripts.train.loss import check_isolation, completion_loss
from scripts.train.model import LoraParams, attach_adapter, keep_autograd_path, load_base
from scripts.train.packing import IGNORED, collate, encode, micro_batches, packs
from scripts.train.round_base import round_base
from scripts.train.sft import make_dataset

LORA = LoraParams(rank=4, alpha=8, dropout=0.0, target_modules="all-linear")


def rows_of(base, contract, pairs):
    tokenizer = AutoTokenizer.from_pretrained(base)
    return tokenizer, list(
        make_dataset([Record(prompt, response, "qa") for prompt, response in pairs], tokenizer, contract, 256)
    )


def one_pack(rows, share=True):
    return next(packs(collate(rows), 10**9, share))


PAIRS = [
    ("hi", "aws s3 ls"),
    ("a longer request than that", "aws iam list-users --max-items 3"),
    ("hello there", "aws sts get-caller-identity"),
]


def test_the_prompt_is_masked_and_the_end_of_turn_is_trained(base, contract):
    tokenizer, rows = rows_of(base, contract, PAIRS)
    for row, (_, response) in zip(rows, PAIRS, strict=True):
        trained = [label for label in row["labels"] if label != IGNORED]
        assert tokenizer.decode(trained) == response + "<|im_end|>"
        assert row["input_ids"][-len(trained) :] == trained
    packed = one_pack(rows)
    assert tokenizer.decode(packed.targets[packed.targets != IGNORED]) == "".join(r + "<|im_end|>" for _, r in PAIRS)


def test_the_prompt_is_what_transformers_renders(base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    asked, _ = encode(tokenizer, contract, Record('braces {{x}} and "quotes"', "r", "qa", context=earlier))
    whole = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            *earlier,
            {"role": "user", "content": 'braces {{x}} and "quotes"'},
        ],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert tokenizer.decode(asked) == whole
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


def test_a_row_too_long_is_refused_not_cut(base, contract):
    tokenizer = AutoTokenizer.from_pretrained(base)
    with pytest.raises(GradusError, match=r"longer than train.max_length \(32 tokens\): page#1"):
        make_dataset([Record("x" * 99, "y", "qa", source="page#1")], tokenizer, contract, 32)


def own_loss(model, rows):
    """The sum over rows of the model's own loss of each row alone, by transformers."""
    total = 0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        total = total + model(input_ids=ids, labels=labels).loss * (labels != IGNORED).sum()
    return total


@pytest.mark.parametrize(("attention", "share"), [("rows", True), ("rows", False), ("eager", False), ("sdpa", False)])
def test_a_pack_gives_the_loss_and_gradient_of_each_row_alone(base, contract, attention, share):
    """No row sees another, padding is none, and what is shared counts for each: in fp32, to rounding."""
    _, rows = rows_of(base, contract, PAIRS)
    reference = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=attention)
    for one in (reference, model):
        one.lm_head.weight.requires_grad_(False)
    packed = one_pack(rows, share)
    shared = packed.bounds[0]
    assert packed.input_ids.shape[1] == sum(len(row["input_ids"]) for row in rows) - 2 * shared
    assert (shared > 20) == share
    loss, expected = completion_loss(model, packed), own_loss(reference, rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for (name, one), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-4 * other.grad.abs().max()), name


def test_what_one_row_says_changes_nothing_for_another(base, contract):
    """Other tokens in the first row: the second one's hidden states stay the same bits."""
    _, rows = rows_of(base, contract, PAIRS[:2])
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="rows")
    found = []
    for token in (70, 80):
        rows[0]["input_ids"][-3] = token
        packed = one_pack(rows)
        with torch.no_grad():
            hidden = model.model(
                input_ids=packed.input_ids, position_ids=packed.position_ids, bounds=packed.bounds, use_cache=False
            ).last_hidden_state[0]
        found.append(hidden[: packed.bounds[0]].tolist() + hidden[packed.bounds[1] :].tolist())
        last = hidden[packed.bounds[1] - 1]
        found.append(last.tolist())
    assert found[0] == found[2]
    assert found[1] != found[3]


def test_a_model_that_lets_rows_see_each_other_is_refused(base, contract, monkeypatch):
    _, rows = rows_of(base, contract, PAIRS)
    model = attach_adapter(load_base(base, "cpu", "rows", False), LORA, None, seed=1)
    check_isolation(model, rows)
    # an attention that looks back over everything, whatever it is told
    layer = model.get_base_model().model.layers[0].self_attn
    monkeypatch.setattr(type(layer), "forward", lambda self, hidden_states, **_: (hidden_states.cumsum(1), None))
    with pytest.raises(GradusError, match="packed rows see each other .* train.micro_batch_tokens: 1"):
        check_isolation(model, rows)


# what a model could be called with instead, so that a row sees others: attention, and the wrong arguments of a pack
LEAKS = {
    "one row of the whole pack": ("rows", lambda pack: {"bounds": [0, pack.bounds[-1]]}),
    "the last row sees the one before": ("rows", lambda pack: {"bounds": [*pack.bounds[:2], pack.bounds[-1]]}),
    "positions that go on": ("sdpa", lambda pack: {"position_ids": torch.arange(pack.bounds[-1])[None]}),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_every_leak_between_rows_is_found(base, contract, monkeypatch, leak):
    import scripts.train.loss as module

    _, rows = rows_of(base, contract, PAIRS)
    attention, wrong = LEAKS[leak]
    model = attach_adapter(load_base(base, "cpu", attention, False), LORA, None, seed=1)
    check_isolation(model, rows)
    real = module._arguments
    leaking = lambda causal, pack: real(causal, pack) | (wrong(pack) if len(pack.bounds) > 2 else {})  # noqa: E731
    monkeypatch.setattr(module, "_arguments", leaking)
    with pytest.raises(GradusError, match="packed rows see each other"):
        check_isolation(model, rows)


def test_masks_are_parts_of_one_triangle():
    """Any number of lengths takes the memory of the longest; each part is the mask that its rows need."""
    from scripts.train.attention import TRIANGLES, _mask

    TRIANGLES.clear()
    for window in (None, 7):
        for keys in range(3, 300, 9):
            for queries in {1, keys // 2 + 1, keys}:
                found = _mask(queries, keys, window, torch.float32, "cpu")
                distance = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
                seen = (distance >= 0) & (distance < (window or keys))
                assert torch.equal(found == 0, seen)
                assert (found[~seen] == float("-inf")).all()
    assert {key[0]: len(triangle) for key, triangle in TRIANGLES.items()} == {None: 512, 7: 512}


def test_noise_is_that_of_each_row_alone():
    """NEFTune's strength is alpha/√(tokens of the row · width), whatever else is in the pack."""
    from scripts.train.neftune import EmbeddingNoise

    noise = EmbeddingNoise(5.0)
    embedding = torch.nn.Embedding(9, 64).to(torch.bfloat16)
    torch.nn.init.zeros_(embedding.weight)
    embedding.register_forward_hook(noise)
    noise.bounds = [0, 20, 400]
    output = embedding(torch.ones((1, 400), dtype=torch.long))[0].detach().abs()
    for row, length in ((output[:20], 20), (output[20:], 380)):
        assert row.max().item() == pytest.approx(5 / (length * 64) ** 0.5, rel=0.02)
    embedding.eval()
    assert embedding(torch.ones((1, 400), dtype=torch.long)).abs().max() == 0


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("attention", ["rows", "sdpa"])
def test_checkpointing_changes_no_bit_of_loss_and_gradients(base, rounded, contract, packed, attention):
    from scripts.train.model import checkpoint_layers

    inputs = one_pack(rows_of(base, contract, PAIRS)[1], attention == "rows")
    found = []
    for again in (False, True):
        model = adapted(base if packed else rounded, packed, attention)
        runs = []
        layer = model.get_base_model().model.layers[0].mlp
        layer.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        if again:
            checkpoint_layers(model)
        model.train()
        loss = completion_loss(model, inputs)
        loss.backward()
        assert len(runs) == 1 + again
        found.append([loss, *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["lm_head_multiplier", "output_multiplier", "logits_scaling"])
def test_a_model_that_scales_its_logits_is_run_whole(base, name):
    """Falcon-H1 and others multiply after the head: the head alone would give other logits."""
    from scripts.train.loss import _whole

    model = LlamaForCausalLM.from_pretrained(base)
    assert not _whole(model)
    setattr(model.config, name, 0.5)
    assert _whole(model)


def test_flash_attention_is_told_where_rows_end_as_transformers_would_find_it(base, contract):
    from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

    from scripts.train.loss import _arguments

    packed = one_pack(rows_of(base, contract, PAIRS)[1], share=False)
    flash = SimpleNamespace(config=SimpleNamespace(_attn_implementation="flash_attention_2"))
    found = _arguments(flash, packed)
    (queries, keys), longest = prepare_fa_kwargs_from_position_ids(packed.position_ids)
    assert torch.equal(found["cu_seq_lens_q"], queries)
    assert torch.equal(found["cu_seq_lens_k"], keys)
    assert (found["max_length_q"], found["max_length_k"]) == longest


def test_the_held_out_loss_is_the_same_in_parts(base, contract, monkeypatch):
    """A large vocabulary: not all logits at once."""
    import scripts.train.loss as module

    packed = one_pack(rows_of(base, contract, PAIRS)[1])
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="rows")
    seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, output: seen.append(output.numel()))
    with torch.no_grad():
        whole = completion_loss(model, packed)
        monkeypatch.setattr(module, "LOGITS", 10 * len(model.lm_head.weight))
        parts = completion_loss(model, packed)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-6)
    assert len(seen) > 5
    assert max(seen[1:]) == module.LOGITS


def test_attention_without_bounds_is_refused(base, contract):
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="rows")
    with pytest.raises(GradusError, match="train.attention: rows; set it to eager"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_micro_batches_hold_every_row_once_in_order_within_the_budget():
    lengths = [10, 90, 20, 30, 15, 200, 40]
    groups = micro_batches(lengths, 100)
    assert [row for group in groups for row in group] == list(range(7))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= 100 for group in groups)
    assert micro_batches([100] * 8, 10**9) == [list(range(8))]
    assert micro_batches([100] * 8, 500) == [[0, 1, 2, 3], [4, 5, 6, 7]]  # halves, not five and three


def test_packs_of_any_size_give_the_gradient_of_the_whole_step(base, contract):
    _, rows = rows_of(base, contract, PAIRS)
    found = []
    for budget in (1, 150, 10**9):
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="rows")
        model.lm_head.weight.requires_grad_(False)
        for packed in packs(collate(rows), budget, True):
            completion_loss(model, packed).backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * one.abs().max())


def test_the_adapted_layer_computes_what_peft_computes():
    torch.manual_seed(0)
    base = torch.nn.Linear(24, 40)
    model = get_peft_model(
        torch.nn.Sequential(base), LoraConfig(r=4, lora_alpha=12, target_modules=["0"], init_lora_weights=False)
    )
    layer = model.base_model.model[0]
    x = torch.randn(3, 5, 24, requires_grad=True)
    results = []
    for fused in (False, True):
        assert not fused or fuse_lora(model)
        y = layer(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad])
        x.grad = None
        model.zero_grad()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_heads_loss_is_torchs_cross_entropy():
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 16, requires_grad=True), torch.randn(50, 16)
    targets = torch.randint(0, 50, (300,))
    expected = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    (expected / 7).backward()
    gradient, hidden.grad = hidden.grad, None
    found = HeadLoss.apply(hidden, weight, targets)
    (found / 7).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(hidden.grad, gradient, atol=1e-6)


def gradients(model, packed):
    model.train()
    completion_loss(model, packed).backward()
    return {name: p.grad.float() for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def rounded(base, tmp_path_factory):
    """The base rounded to NF4, expanded in bf16."""
    folder = tmp_path_factory.mktemp("rounded") / "base-nf4"
    round_base(base, folder)
    return folder


def adapted(folder, packed, attention="rows"):
    torch.manual_seed(0)
    model = attach_adapter(load_base(folder, "cpu", attention, packed), LORA, None, seed=1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: then lora_A would have no gradient to compare
            torch.nn.init.normal_(parameter, std=0.02)
    return model


@pytest.mark.parametrize("packed", [True, False])
def test_an_evaluation_before_a_step_changes_no_gradient(base, rounded, contract, packed):
    """The trap of bitsandbytes on CPUs with AVX512-BF16: see docs/training.md."""
    inputs = one_pack(rows_of(base, contract, PAIRS)[1])
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


@pytest.mark.parametrize("flag", ["amx_bf16", "avx2"])
def test_the_rounded_base_holds_the_numbers_of_the_packed_one(base, rounded, contract, cpu_with, flag):
    cpu_with(flag)  # without bf16, computed in fp32
    inputs = one_pack(rows_of(base, contract, PAIRS)[1])
    packed, unpacked = adapted(base, True), adapted(rounded, False)
    assert completion_loss(packed, inputs).item() == completion_loss(unpacked, inputs).item()
    one, other = gradients(packed, inputs), gradients(unpacked, inputs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert keep_autograd_path(unpacked) == 0 < keep_autograd_path(packed)


@pytest.mark.parametrize("packed", [True, False])
def test_the_adapted_model_computes_what_peft_computes(base, rounded, contract, packed):
    inputs = one_pack(rows_of(base, contract, PAIRS)[1])
    fused, own = (adapted(base if packed else rounded, packed) for _ in range(2))
    for module in own.modules():
        vars(module).pop("forward", None)
    own.needs_autocast = True
    assert fused.needs_autocast is False
    losses = [completion_loss(model, inputs).item() for model in (fused, own)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    one, other = gradients(fused, inputs), gradients(own, inputs)
    for name in one:
        assert (one[name] - other[name]).norm() < 0.03 * other[name].norm(), name


def test_a_pad_token_that_ends_a_turn_is_refused():
    from scripts.train.prepare_tokenizer import choose_pad_token

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
    from scripts.train import prepare_base, prepare_tokenizer

    out, tokenizer = tmp_path / "out", tmp_path / "tokenizer"
    prepare_tokenizer.prepare(f"path:{base}", base, None, None, tokenizer)
    assert not list(tokenizer.glob("*.safetensors"))
    prepare_base.prepare(f"path:{base}", base, None, tokenizer, out)
    assert (out / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert (out / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()
    made = make_contract(tokenizer, " Be brief. ")
    assert (made.system_prompt, made.end_of_turn_id, made.pad_token_id) == ("Be brief.", 2, 0)
    with pytest.raises(GradusError, match="control token"):
        make_contract(tokenizer, "Say <|im_end|>")
    with pytest.raises(GradusError, match="not in the vocabulary"):
        prepare_tokenizer.prepare(f"path:{base}", base, None, "<nope>", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_sentencepiece_model_stays_with_the_base_for_the_converter(base, tmp_path):
    from scripts.train import prepare_base, prepare_tokenizer

    source = tmp_path / "source"
    shutil.copytree(base, source)
    (source / "tokenizer.model").write_bytes(b"pieces")
    prepare_tokenizer.prepare(f"path:{source}", source, None, None, tmp_path / "tokenizer")
    prepare_base.prepare(f"path:{source}", source, None, tmp_path / "tokenizer", tmp_path / "out")
    assert (tmp_path / "out/tokenizer.model").read_bytes() == b"pieces"


def test_tokens_are_counted_as_training_will_see_them(base, contract):
    """Without transformers and torch, to the token; the audit and the arms' budgets rest on it."""
    from scripts.common.tokens import TokenCounter

    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "  ho\n"}]
    rows = [Record(p, r, "qa") for p, r in PAIRS] + [Record(" {{x}} \n\n é📦", "\n{}", "qa", context=earlier)]
    tokenizer = AutoTokenizer.from_pretrained(base)
    expected = [tuple(map(len, encode(tokenizer, contract, row))) for row in rows]
    assert TokenCounter(base, contract).count(rows) == expected


def test_the_bases_loss_is_transformers_own_and_ifd_compares_it(base, contract):
    from scripts.curriculum.scorers import SCORERS, Known
    from scripts.train.base_loss import base_losses, opening

    rows = [Record(p, r, "qa") for p, r in PAIRS]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = load_base(base, "cpu", "eager", False).eval()
    alone = opening(tokenizer, contract)
    assert tokenizer.decode(alone) == "<|im_start|>assistant\n"
    found = list(base_losses(rows, base, contract))
    for row, losses in zip(rows, found, strict=True):
        asked, answer = encode(tokenizer, contract, row)
        for ids, name in ((asked, "loss"), (alone, "loss_alone")):
            labels = torch.tensor([[IGNORED] * len(ids) + answer])
            with torch.no_grad():
                expected = model(input_ids=torch.tensor([ids + answer]), labels=labels).loss.item()
            assert losses[name] == pytest.approx(expected, abs=0.02)
    known = Known(tables={"losses": {line["id"]: line for line in found}})
    assert SCORERS["ifd"](rows, known) == pytest.approx([f["loss"] / f["loss_alone"] for f in found])
    with pytest.raises(GradusError, match="no loss of the base for this row"):
        SCORERS["loss"]([Record("new", "row", "qa")], known)
