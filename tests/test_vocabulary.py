# SPDX-License-Identifier: Apache-2.0
"""A trained model that gets the vocabulary of another text."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import run_simul_speech
import run_simul_translation
from families import FAMILIES, make_family
from helpers import TEMPLATE, TEXT, make_model, make_tokenizer
from speech import make_speech, make_speech_processor
from test_generation import assert_streamed_equals_trained, run
from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy
from transformers_simul.corpora import Pair
from transformers_simul.models.decoding_weights import set_decoding_weights
from transformers_simul.training import (
    DataArguments,
    ModelArguments,
    SimulTrainer,
    make_processor,
    move_to_vocabulary,
    train_tokenizer,
)
from transformers_simul.training import make_model as make_any_model

FRENCH = [
    Pair("a dog runs over the meadow", "un chien court à travers le pré « vert » ."),
    Pair("today", "aujourd’hui 5 €, où le cœur « noue »"),
]


def reordered(tokenizer):
    """The same pieces and merges under other numbers, those of the special tokens too."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    last = len(tokenizer) - 1
    state["model"]["vocab"] = {piece: last - number for piece, number in state["model"]["vocab"].items()}
    for token in state["added_tokens"]:
        token["id"] = last - token["id"]
    backend = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")


def make(name, processor, **settings):
    return make_model(processor, **settings) if name == "Falcon" else make_family(name, processor, **settings)


@pytest.mark.parametrize("name", ["Falcon", *FAMILIES])
def test_the_same_pieces_under_other_numbers_are_the_same_model(processor, name):
    model = make(name, processor)
    former, other = processor.tokenizer, reordered(processor.tokenizer)
    moved = copy.deepcopy(model)
    by_number = {"suppress_tokens": [5], "begin_suppress_tokens": [5], "bad_words_ids": [[5]], "sequence_bias": [[[5], 1.0]],
                 "forced_bos_token_id": 6, "forced_eos_token_id": 6}  # fmt: skip
    moved.generation_config.update(**by_number)
    move_to_vocabulary(moved, former, other)
    ids, others = former(TEXT[0])["input_ids"], other(TEXT[0])["input_ids"]
    assert ids != others
    assert former.convert_ids_to_tokens(ids) == other.convert_ids_to_tokens(others)
    order = torch.tensor([former.convert_tokens_to_ids(token) for token in other.convert_ids_to_tokens(range(300))])
    with torch.no_grad():
        before, after = model(torch.tensor([ids])).logits, moved(torch.tensor([others])).logits
    torch.testing.assert_close(after, before[..., order])
    for config in (moved.config, moved.generation_config):
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (299, 299, 298)
    assert {getattr(moved.generation_config, name) for name in by_number} == {None}


@pytest.mark.parametrize("name", ["Falcon", *FAMILIES])
@pytest.mark.parametrize("size", [280, 340])
def test_each_row_is_the_mean_of_the_rows_that_write_the_same(processor, name, size):
    model, former = make(name, processor, pad_token_id=70), processor.tokenizer
    other = train_tokenizer(FRENCH, size)
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, former, other)
    assert (moved.config.vocab_size, *moved.get_input_embeddings().weight.shape) == (
        len(other), len(other), model.get_input_embeddings().embedding_dim,
    )  # fmt: skip
    assert moved.lm_head.out_features == len(other)
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert (moved.lm_head.weight is moved.get_input_embeddings().weight) == tied
    assert [type(moved.lm_head), type(moved.get_input_embeddings())] == [
        type(model.lm_head), type(model.get_input_embeddings()),
    ]  # fmt: skip
    pieces, kinds = former.get_vocab(), set()
    for piece, token in other.get_vocab().items():
        if piece in pieces:
            rows, kind = [pieces[piece]], "shared"
        else:
            # Both are byte-level, so that the former's merges are those of the piece's own letters.
            rows, kind = [part.id for part in former.backend_tokenizer.model.tokenize(piece)], "new"
        kinds.add(kind)
        for before, after in (
            (model.get_input_embeddings(), moved.get_input_embeddings()),
            (model.lm_head, moved.lm_head),
        ):
            mean = sum(before.weight[row].detach() for row in rows) / len(rows)
            torch.testing.assert_close(after.weight[token].detach(), mean)
    assert kinds == {"shared", "new"}
    # The row that was the former padding's learns too.
    ids = torch.tensor([[70, 71, 72]])
    moved(ids).logits.square().sum().backward()
    assert moved.get_input_embeddings().weight.grad[70].abs().sum() > 0


@pytest.mark.parametrize("name", ["Falcon", "Llama"])
def test_a_moved_model_streams_what_its_masked_forward_says(processor, name, tmp_path):
    moved = make(name, processor)
    other = train_tokenizer(FRENCH, 340)
    move_to_vocabulary(moved, processor.tokenizer, other)
    new = SimulProcessor(other, target_lang="fr", template=TEMPLATE)
    sources = [pair.source for pair in FRENCH]
    for policy in (WaitKPolicy(1), WaitKPolicy(3)):
        output = run(moved, new, sources, policy)
        assert_streamed_equals_trained(moved, new, sources, [policy] * 2, output)
    moved.save_pretrained(tmp_path)
    again = AutoSimulModel.from_pretrained(tmp_path).eval()
    assert run(again, new, sources, policy).words == output.words
    ids = torch.tensor([other(TEXT[0])["input_ids"]])
    with torch.no_grad():
        assert torch.equal(again(ids).logits, moved(ids).logits)


def test_weights_keep_their_type_and_what_is_frozen(processor):
    moved = make_model(processor, tie_word_embeddings=False).to(torch.bfloat16)
    moved.get_input_embeddings().weight.requires_grad_(False)
    move_to_vocabulary(moved, processor.tokenizer, train_tokenizer(FRENCH, 280))
    assert {weight.dtype for weight in moved.parameters()} == {torch.bfloat16}
    assert not moved.get_input_embeddings().weight.requires_grad
    assert moved.lm_head.weight.requires_grad


def test_padding_that_is_the_end_learns_too(processor):
    other = train_tokenizer(FRENCH, 280)
    other.pad_token = other.eos_token
    moved = make_family("Llama", processor)
    move_to_vocabulary(moved, processor.tokenizer, other)
    moved(torch.tensor([[0, 7, 0, 8]])).logits.square().sum().backward()
    assert moved.get_input_embeddings().weight.grad[0].abs().sum() > 0


def test_each_role_keeps_its_row(processor):
    former = make_tokenizer()
    former.bos_token = "a"  # any token with a row of its own
    other = train_tokenizer(FRENCH, 280, control=["<s>"])
    other.bos_token = "<s>"
    model = make_model(processor)
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, former, other)
    after = moved.get_input_embeddings().weight.detach()
    for token, name in (
        (other.bos_token_id, "a"),
        (other.eos_token_id, "<|endoftext|>"),
        (other.pad_token_id, "<|pad|>"),
    ):
        assert torch.equal(after[token], rows_of(model, former, [name]))
    assert moved.config.bos_token_id == 2


def test_a_former_tokenizer_may_have_holes_in_its_numbers(processor):
    state = json.loads(make_tokenizer().backend_tokenizer.to_str())
    state["model"]["vocab"]["do"] = 400
    former = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="<|endoftext|>")
    move_to_vocabulary(make_model(processor), former, train_tokenizer(FRENCH, 280))


def sentence_pieces(pieces, merges, **special):
    """As SentencePiece's of Llama 2: "ch" alone is written as " ch", and rare letters byte by byte."""
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    numbers = {piece: number for number, piece in enumerate(["<s>", "</s>", "<unk>", *names, *pieces])}
    backend = Tokenizer(models.BPE(numbers, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", **special)


def rows_of(model, former, tokens):
    """The mean row of the former tokens with these names."""
    weight = model.get_input_embeddings().weight.detach()
    return sum(weight[former.convert_tokens_to_ids(token)] for token in tokens) / len(tokens)


def test_a_former_tokenizer_of_sentence_pieces_gives_the_same_letters_and_bytes(processor):
    former = sentence_pieces(
        ["\n", "▁", "c", "h", "▁ch", "ch", "▁c", "Ã", "é", "h."],
        [("c", "h"), ("▁", "ch"), ("▁", "c")],
        eos_token="</s>",
    )
    assert former.convert_ids_to_tokens(former.encode("ch")) == ["▁ch"]
    model = make_model(processor, vocab_size=len(former))
    moved = copy.deepcopy(model)
    other = train_tokenizer([Pair("ch ch", "xch xch chc chc")] * 2, 266)
    move_to_vocabulary(moved, former, other)
    after = moved.get_input_embeddings().weight.detach()
    expected = {
        "ch": ["ch"],
        "Ġch": ["▁ch"],
        "xch": ["<0x78>", "ch"],
        "Ġchc": ["▁ch", "c"],
        # Bytes of characters, spelt in letters that the former has as letters.
        "Ã": ["<0xC3>"],
        "é": ["<0xE9>"],
        "Ģ": ["<0x80>"],
        # A letter before the byte that it is.
        "Ġ": ["▁"],
        "c": ["c"],
        "<|endoftext|>": ["</s>"],
        "<|pad|>": ["</s>"],
    }
    for piece, same in expected.items():
        token = other.convert_tokens_to_ids(piece)
        assert other.convert_ids_to_tokens(token) == piece
        torch.testing.assert_close(after[token], rows_of(model, former, same), msg=piece)


def test_a_tokenizer_of_sentence_pieces_moved_to_itself_is_the_same(processor):
    special = {"eos_token": "</s>", "bos_token": "<s>"}
    tokenizer = sentence_pieces(["▁", "c", "h", "▁ch", "ch", "▁c"], [("c", "h"), ("▁", "ch"), ("▁", "c")], **special)
    model = make_model(processor, vocab_size=len(tokenizer))
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, tokenizer, tokenizer)
    assert torch.equal(moved.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert (moved.config.bos_token_id, moved.config.eos_token_id, moved.config.pad_token_id) == (0, 1, None)


def test_a_token_of_which_nothing_is_known_gets_the_mean_of_all(processor):
    former = make_tokenizer()
    former.add_tokens(["<image>"])  # beyond the model's rows, as Gemma 3's
    model = make_model(processor, vocab_size=300)
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, former, train_tokenizer(FRENCH, 280, control=["<who>", "<image>"]))
    weight = model.get_input_embeddings().weight.detach()
    for token in (2, 3):
        torch.testing.assert_close(moved.get_input_embeddings().weight[token].detach(), weight.mean(0))


def test_what_cannot_be_moved_is_refused(processor):
    other, nameless = train_tokenizer(FRENCH, 280), make_tokenizer()
    nameless.eos_token = None
    for former, tokenizer, name in ((nameless, other, "former"), (other, nameless, "tokenizer")):
        with pytest.raises(ValueError, match=f"{name} must have an eos_token"):
            move_to_vocabulary(make_model(processor), former, tokenizer)
    packed = make_model(processor).eval()
    set_decoding_weights(packed, "int8")
    with pytest.raises(ValueError, match="model must have embeddings that can be trained"):
        move_to_vocabulary(packed, processor.tokenizer, other)
    # As ZeRO-3 holds them.
    shared = make_model(processor)
    shared.get_input_embeddings().weight = shared.lm_head.weight = torch.nn.Parameter(torch.empty(0))
    with pytest.raises(ValueError, match="nor in shares among processes"):
        move_to_vocabulary(shared, processor.tokenizer, other)
    with pytest.raises(ValueError, match="model must be one of text"):
        move_to_vocabulary(make_speech("Falcon", make_speech_processor()), processor.tokenizer, other)


@pytest.fixture
def train(processor, tmp_path, monkeypatch, capsys):
    """The program, on a German model and French text; what it wrote to standard output."""
    make_model(processor).save_pretrained(tmp_path / "german")
    processor.save_pretrained(tmp_path / "german")
    for code, lines in (("en", [pair.source for pair in FRENCH]), ("fr", [pair.target for pair in FRENCH])):
        (tmp_path / f"text.{code}").write_text("\n".join(lines * 8), encoding="utf-8")

    def run(output, *flags, program=run_simul_translation):
        files = [str(tmp_path / "text.en"), str(tmp_path / "text.fr")]
        name = ["program.py", "--output_dir", str(tmp_path / output), "--target_lang", "fr", "--train_file", *files]
        base = ["--model_name_or_path", str(tmp_path / "german")]
        small = "--do_train --max_steps 2 --stream_sentences 0 --report_to none --use_cpu --disable_tqdm 1".split()
        if program is run_simul_speech:
            small.remove("--stream_sentences")
            small.remove("0")
        monkeypatch.setattr("sys.argv", [*name, *base, *small, *flags])
        program.main()
        return capsys.readouterr().out

    return run


MOVING = ["--new_vocabulary", "--vocab_size", "330"]


def test_the_program_goes_on_with_a_new_vocabulary(processor, train, tmp_path):
    train("french", *MOVING)
    model = AutoSimulModel.from_pretrained(tmp_path / "french")
    tokenizer = SimulProcessor.from_pretrained(tmp_path / "french").tokenizer
    assert model.config.vocab_size == len(tokenizer) != len(processor.tokenizer)
    assert "Ġchien" in tokenizer.get_vocab()
    assert "finished before" in train("french", *MOVING)
    # Without the flag, training.json is as it was before there was one.
    train("german-again")
    assert "new_vocabulary" not in (tmp_path / "german-again" / "training.json").read_text()
    with pytest.raises(ValueError, match="new_vocabulary was True"):
        train("french", "--vocab_size", "330")


def test_a_training_with_a_new_vocabulary_resumes(train, tmp_path, monkeypatch):
    flags = [*MOVING, "--max_steps", "4", "--save_steps", "2"]
    train("whole", *flags)
    step, steps = SimulTrainer.training_step, []

    def stop(trainer, *rest):
        if len(steps) == 3:
            raise RuntimeError("the machine died")
        steps.append(None)
        return step(trainer, *rest)

    monkeypatch.setattr(SimulTrainer, "training_step", stop)
    with pytest.raises(RuntimeError, match="died"):
        train("cut", *flags)
    monkeypatch.undo()
    train("cut", *flags)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_ends_and_control_tokens_of_a_former_processor_are_kept(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|done|>", "<|other|>"]})
    tokenizer.add_tokens(["<2French>"])
    template = "<|turn|><2{target_lang}> {source} => {target}"
    former = SimulProcessor(tokenizer, template=template, eos_token="<|done|>")  # to French unless told
    model = make_model(former)
    model.save_pretrained(tmp_path)
    former.save_pretrained(tmp_path)
    args = ModelArguments(str(tmp_path), new_vocabulary=True, vocab_size=300)
    processor = make_processor(args, DataArguments(template=template, target_lang="fr"), FRENCH)
    moved = make_any_model(args, processor)
    assert len(processor.head_ids) == 2
    after = moved.get_input_embeddings().weight.detach()
    for token, name in (
        (processor.eos_token_id, "<|done|>"),
        (processor.head_ids[0], "<|turn|>"),
        (processor.head_ids[1], "<2French>"),
    ):
        torch.testing.assert_close(after[token], rows_of(model, tokenizer, [name]))
    assert "<|other|>" not in processor.tokenizer.get_vocab()
    # Other models have processors with settings of their own.
    for settings in ({"processor_class": "Gemma3Processor"}, {"processor_class": "SimulProcessor"}):
        (tmp_path / "processor_config.json").write_text(json.dumps(settings))
        after = make_any_model(args, processor).get_input_embeddings().weight.detach()
        torch.testing.assert_close(after[processor.eos_token_id], rows_of(model, tokenizer, ["<|endoftext|>"]))
    settings["eos_token"] = "<|gone|>"
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="eos_token in .* must be a token of its tokenizer, got '<|gone|>'"):
        make_any_model(args, processor)
    # The new end of a sentence is no control token of the prompt.
    tokenizer.eos_token = "<|done|>"
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="template must not name '<.endoftext.>' with new_vocabulary"):
        make_processor(args, DataArguments(template="<|endoftext|> {source} => {target}"), FRENCH)


def test_flags_that_cannot_be_are_refused_before_any_work(train, tmp_path):
    with pytest.raises(ValueError, match="new_vocabulary needs model_name_or_path"):
        ModelArguments(new_vocabulary=True)
    with pytest.raises(ValueError, match="new_vocabulary needs model_name_or_path, .* and no use_lora"):
        train("out", *MOVING, "--use_lora")
    with pytest.raises(ValueError, match="use_chat_template must not be given with new_vocabulary"):
        train("out", *MOVING, "--use_chat_template")
    with pytest.raises(ValueError, match="new_vocabulary needs do_train"):
        train("out", *MOVING, "--do_train", "false", "--do_predict")
    with pytest.raises(ValueError, match="new_vocabulary is for text alone"):
        train("out", *MOVING, program=run_simul_speech)
    assert not (tmp_path / "out" / "training.json").exists()
