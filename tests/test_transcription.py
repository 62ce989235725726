# SPDX-License-Identifier: Apache-2.0
"""The encoder that learns to transcribe: its loss, what it takes for too fast, what it hears, and that it learns."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from speech import make_speech, make_speech_processor
from transformers_simul.models.audio_units import AudioToken
from transformers_simul.research.speech.transcription import (
    Transcriber,
    TranscriptCollator,
    check_places,
    load_hearing,
    train_transcriber,
)
from transformers_simul.training import ProgramArguments, SimulTrainer

VOCABULARY = [50, 60, 70]


@pytest.fixture(scope="module")
def model():
    return make_speech("Falcon", make_speech_processor())


@pytest.fixture
def says(model, monkeypatch):
    """Features of a unit are the tokens that it says, one for each place: embeddings stand where they should."""

    def embed(features):
        return model.get_input_embeddings().weight.detach()[features.long()]

    monkeypatch.setattr(model, "embed_units", embed)
    return Transcriber(model, VOCABULARY)


def unit(model, *tokens):
    blank = model.config.audio_token_id
    rest = [blank] * (model.config.unit_tokens - len(tokens))
    return AudioToken.unit(blank, torch.tensor([*tokens, *rest]), model.config.unit_tokens)


def example(model, units, transcript):
    return {"source_ids": [unit(model, *each) for each in units], "transcript_ids": transcript}


def test_what_stands_at_a_token_says_it(model, says):
    batch = TranscriptCollator(VOCABULARY)([example(model, [[50], [60], []], [50, 60])])
    assert says.transcribe(batch["features"]) == [50, 60]
    # A token that goes on from one unit to the next is one; with a blank between, it is two.
    size = model.config.unit_tokens
    batch = TranscriptCollator(VOCABULARY)([example(model, [[50] * size, [50], [50]], [50, 50])])
    assert says.transcribe(batch["features"]) == [50, 50]


def test_the_loss_sums_over_all_ways_to_say_it(model, says):
    """Against every alignment, counted one by one."""
    # Two units say 50, 70, nothing, 60; the transcript has 50 and 60.
    batch = TranscriptCollator(VOCABULARY)([example(model, [[50, 70], [model.config.audio_token_id, 60]], [50, 60])])
    log_probabilities = says.log_probabilities(batch["features"])
    total = torch.tensor(0.0)
    for path in itertools.product(range(4), repeat=len(log_probabilities)):
        if [place for place, _ in itertools.groupby(path) if place] == [1, 2]:
            total = total + log_probabilities[range(len(path)), list(path)].sum().exp()
    loss = says(**batch)["loss"]
    # The mean over tokens.
    assert float(loss) == pytest.approx(-float(total.log()) / 2, rel=1e-4)
    near = (model.get_input_embeddings().weight[50] - says.embeddings).square().sum(1)
    torch.testing.assert_close(log_probabilities[0], (-says.scale * near).log_softmax(-1), rtol=1e-4, atol=1e-4)


def test_who_speaks_too_fast_is_counted_or_refused(model, says):
    places = model.config.unit_tokens
    collate = TranscriptCollator(VOCABULARY)
    fast = example(model, [[50]], [50, 60, 70, 50, 60][: places + 1])
    says(**collate([fast, example(model, [[50], [60]], [50, 60])]))
    assert says.too_fast == 1
    # Twice the same needs a blank between. A batch of nothing else teaches nothing, and does no harm.
    again = example(model, [[50]], [50] * places)
    loss = says(**collate([fast, again]))["loss"]
    assert loss == 0
    assert says.too_fast == 3
    check_places([[50, 60], [50, 60, 70]], [0.08, 0.09], 80, 2)
    with pytest.raises(ValueError, match="unit_tokens must be above 2, or chunk_ms below 80: no utterance has"):
        check_places([[50, 50], [50, 60, 70]], [0.08, 0.08], 80, 2)


def test_it_learns_to_hear_and_another_model_takes_that_over(tmp_path):
    """Noises that stand for tokens; the language model does not move."""
    learner = make_speech("Falcon", make_speech_processor()).train()
    transcriber = Transcriber(learner, VOCABULARY)
    before = learner.get_input_embeddings().weight.clone()
    noises = torch.randn(3, 8, 24, generator=torch.manual_seed(0))
    blank, places = learner.config.audio_token_id, learner.config.unit_tokens
    spoken = [(0, 1), (2, 0), (1, 2)]
    batch = TranscriptCollator(VOCABULARY)(
        [
            {
                "source_ids": [AudioToken.unit(blank, noises[noise], places) for noise in pair],
                "transcript_ids": [VOCABULARY[noise] for noise in pair],
            }
            for pair in spoken
        ]
    )
    optimizer = torch.optim.AdamW(transcriber.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        transcriber(**batch)["loss"].backward()
        optimizer.step()
    learner.eval()
    heard = [transcriber.transcribe(torch.stack([noises[noise] for noise in pair])) for pair in spoken]
    assert heard == [[VOCABULARY[noise] for noise in pair] for pair in spoken]
    torch.testing.assert_close(learner.get_input_embeddings().weight, before, rtol=0, atol=0)
    assert {name.split(".")[0] for name in transcriber.state_dict()} == {"encoder", "projector"}

    save_file(transcriber.state_dict(), tmp_path / "hearing.safetensors")
    (tmp_path / "vocabulary.json").write_text(str(VOCABULARY))
    other = make_speech("Falcon", make_speech_processor())
    taken = load_hearing(other, tmp_path)
    assert [taken.transcribe(torch.stack([noises[noise] for noise in pair])) for pair in spoken] == heard
    torch.testing.assert_close(other.embed_units(noises), learner.embed_units(noises), rtol=0, atol=0)


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    noises = torch.randn(6, 8, 24, generator=torch.manual_seed(0))

    def train(folder):
        learner = make_speech("Falcon", make_speech_processor()).train()
        blank, places = learner.config.audio_token_id, learner.config.unit_tokens
        examples = [
            {"source_ids": [AudioToken.unit(blank, noise, places)], "transcript_ids": [VOCABULARY[index % 3]]}
            for index, noise in enumerate(noises)
        ]
        args = ProgramArguments(
            str(folder), max_steps=6, save_steps=2, per_device_train_batch_size=2, learning_rate=1e-2, use_cpu=True,
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        train_transcriber(learner, VOCABULARY, examples, args, {"of": "noises"})

    train(tmp_path / "whole")
    step = SimulTrainer.training_step

    def dies(trainer, *args, **kwargs):
        if trainer.state.global_step == 4:
            raise KeyboardInterrupt
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(SimulTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    steps = []

    def counts(trainer, *args, **kwargs):
        steps.append(trainer.state.global_step)
        return step(trainer, *args, **kwargs)

    monkeypatch.setattr(SimulTrainer, "training_step", counts)
    train(tmp_path / "cut")
    assert steps == [4, 5]
    whole, cut = (load_file(tmp_path / name / "hearing.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, weights in whole.items():
        torch.testing.assert_close(cut[name], weights, rtol=0, atol=0)
    done = [json.loads((tmp_path / name / "training.json").read_text())["done"] for name in ("whole", "cut")]
    assert done[0]["steps"] == done[1]["steps"] == 6
