# SPDX-License-Identifier: Apache-2.0
"""A trained model that gets the vocabulary of another text."""

import copy
import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import run_simul_translation
from families import FAMILIES, make_family
from helpers import TEXT, make_model, make_tokenizer
from transformers_simul import AutoSimulModel, SimulProcessor
from transformers_simul.corpora import Pair
from transformers_simul.training import ModelArguments, make_config, move_to_vocabulary, train_tokenizer

FRENCH = [Pair("a dog runs over the meadow", "un chien court à travers le pré vert ."), Pair("today", "aujourd'hui")]


def reordered(tokenizer):
    """The same pieces and merges under other numbers, those of the special tokens too."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    last = len(tokenizer) - 1
    state["model"]["vocab"] = {piece: last - number for piece, number in state["model"]["vocab"].items()}
    for token in state["added_tokens"]:
        token["id"] = last - token["id"]
    backend = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.mark.parametrize("name", ["Falcon", *FAMILIES])
def test_the_same_pieces_under_other_numbers_are_the_same_model(processor, name):
    model = make_model(processor) if name == "Falcon" else make_family(name, processor)
    former, other = processor.tokenizer, reordered(processor.tokenizer)
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, former, other)
    ids, others = former(TEXT[0])["input_ids"], other(TEXT[0])["input_ids"]
    assert ids != others
    assert former.convert_ids_to_tokens(ids) == other.convert_ids_to_tokens(others)
    order = torch.tensor([former.convert_tokens_to_ids(token) for token in other.convert_ids_to_tokens(range(300))])
    with torch.no_grad():
        before, after = model(torch.tensor([ids])).logits, moved(torch.tensor([others])).logits
    torch.testing.assert_close(after, before[..., order])


@pytest.mark.parametrize("tied", [True, False])
def test_each_row_is_the_mean_of_the_rows_that_write_the_same(processor, tied):
    model, former = make_model(processor, tie_word_embeddings=tied), processor.tokenizer
    other = train_tokenizer(FRENCH, 320)
    moved = copy.deepcopy(model)
    move_to_vocabulary(moved, former, other)
    assert (moved.config.vocab_size, moved.get_input_embeddings().weight.shape[0]) == (len(other), len(other))
    assert (moved.lm_head.weight is moved.get_input_embeddings().weight) == tied
    for config in (moved.config, moved.generation_config):
        assert (config.eos_token_id, config.pad_token_id) == (other.eos_token_id, other.pad_token_id)
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


def test_a_former_tokenizer_that_puts_a_space_first_gives_inner_pieces_without_one(processor):
    """As SentencePiece's of Llama 2: "ch" alone would be written as " ch"."""
    pieces = ["<s>", "<unk>", "\n", "▁", "c", "h", "▁ch", "ch", "▁c"]
    merges = [("c", "h"), ("▁", "ch"), ("▁", "c")]
    backend = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    former = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<s>", unk_token="<unk>")
    assert former.convert_ids_to_tokens(former.encode("ch")) == ["▁ch"]
    model = make_model(processor, vocab_size=len(pieces))
    moved = copy.deepcopy(model)
    other = train_tokenizer([Pair("ch ch", "xch xch")] * 2, 262)
    move_to_vocabulary(moved, former, other)
    before, after = (each.get_input_embeddings().weight for each in (model, moved))
    for piece, same in (("ch", "ch"), ("Ġch", "▁ch")):
        assert torch.equal(after[other.convert_tokens_to_ids(piece)], before[pieces.index(same)]), piece


def test_the_program_goes_on_with_a_new_vocabulary_and_resumes(processor, tmp_path, monkeypatch, capsys):
    make_model(processor).save_pretrained(tmp_path / "german")
    processor.save_pretrained(tmp_path / "german")
    for code, lines in (("en", [pair.source for pair in FRENCH]), ("fr", [pair.target for pair in FRENCH])):
        (tmp_path / f"text.{code}").write_text("\n".join(lines * 8), encoding="utf-8")

    def train(output, *flags):
        files = [str(tmp_path / "text.en"), str(tmp_path / "text.fr")]
        program = ["run_simul_translation.py", "--output_dir", str(tmp_path / output), "--do_train"]
        small = (
            "--target_lang fr --max_steps 2 --stream_sentences 0 --report_to none --use_cpu --disable_tqdm 1".split()
        )
        monkeypatch.setattr("sys.argv", [*program, "--train_file", *files, *small, *flags])
        run_simul_translation.main()
        return capsys.readouterr().out

    moving = ["--model_name_or_path", str(tmp_path / "german"), "--new_vocabulary", "--vocab_size", "330"]
    train("french", *moving)
    model = AutoSimulModel.from_pretrained(tmp_path / "french")
    tokenizer = SimulProcessor.from_pretrained(tmp_path / "french").tokenizer
    assert model.config.vocab_size == len(tokenizer) != len(processor.tokenizer)
    assert "Ġchien" in tokenizer.get_vocab()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "finished before" in train("french", *moving)
    # Without the flag, training.json is as it was before there was one.
    train("german-again", "--model_name_or_path", str(tmp_path / "german"))
    assert "new_vocabulary" not in (tmp_path / "german-again" / "training.json").read_text()
    with pytest.raises(ValueError, match="new_vocabulary was True"):
        train("french", "--model_name_or_path", str(tmp_path / "german"), "--vocab_size", "330")


@pytest.mark.parametrize("flags", [{}, {"model_name_or_path": "{folder}", "use_lora": True}])
def test_a_new_vocabulary_needs_a_model_that_trains_its_embeddings(processor, tmp_path, flags):
    make_model(processor).save_pretrained(tmp_path)
    flags = {name: str(tmp_path) if value == "{folder}" else value for name, value in flags.items()}
    with pytest.raises(ValueError, match="new_vocabulary needs model_name_or_path"):
        make_config(ModelArguments(new_vocabulary=True, **flags), make_tokenizer())
