# SPDX-License-Identifier: Apache-2.0
"""A corpus on refilled rows: the translations that each sentence gets alone, in fewer forwards than fixed batches."""

import random

import pytest
import torch

from families import make_family
from helpers import make_model, make_processor, random_sentence
from speech import make_speech, make_speech_processor, recordings
from test_choosing import babbling
from test_engine import as_output, options
from test_families import CASES
from test_generation import assert_streamed_equals_trained, sentences
from transformers_simul import LocalAgreementPolicy, OfflinePolicy, SimulCache, WaitKPolicy
from transformers_simul.evaluation import corpus_rows, decode
from transformers_simul.evaluation.corpus_rows import CorpusRows
from transformers_simul.evaluation.decode import finished_json, finished_log, translate_corpus, translate_sentences
from transformers_simul.evaluation.lines import translate_lines
from transformers_simul.research.baselines import ConverseDecoder, RecomputingDecoder

LIMIT = {"max_new_tokens": 24}


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def babbler(processor):
    return babbling(processor)


@pytest.fixture(scope="module")
def sources():
    draw = random.Random(12)
    return [random_sentence(draw, 1, 9) for _ in range(14)]


@pytest.fixture
def forwards(babbler):
    """Counts them."""
    counted = []
    hook = babbler.register_forward_pre_hook(lambda *_: counted.append(1))
    yield counted
    hook.remove()


def alone(model, processor, source, policy, **kwargs):
    """The oracle: `generate()` on one sentence."""
    inputs = processor(source=source)
    return model.generate(**inputs, policy=policy, return_dict_in_generate=True, **LIMIT | kwargs)


@pytest.mark.parametrize(
    "policy", [WaitKPolicy(1), WaitKPolicy(3), OfflinePolicy(), LocalAgreementPolicy(2, 1, 3)], ids=repr
)
def test_each_sentence_gets_what_it_gets_alone(babbler, processor, sources, policy):
    expected = [alone(babbler, processor, source, policy) for source in sources]
    for rows in (1, 4, 32):
        found = translate_sentences(babbler, processor, sources, sources, policy, rows, **LIMIT)
        for index, ((instance, reason), output) in enumerate(zip(found, expected, strict=True)):
            assert instance.index == index
            assert instance.source == instance.reference == sources[index]
            assert instance.source_length == len(sources[index].split())
            assert instance.prediction == processor.text(output.words[0])
            assert instance.prediction_length == len(output.words[0]) == len(instance.elapsed)
            assert instance.delays == output.delays[0]
            assert reason == output.stop_reasons[0]
            assert instance.elapsed == sorted(instance.elapsed)
    assert len({output.stop_reasons[0] for output in expected}) > 1 or isinstance(policy, OfflinePolicy)


def refilled_rows_equal_trained(model, processor, sources, **kwargs):
    """The law, in rows that the head of the prompt stays in while sentences come and go; how many tokens were asked
    again."""
    rows = CorpusRows(model, processor, WaitKPolicy(1), 2, **options(processor) | kwargs)
    ended = {}
    rows.translate(enumerate(sources), lambda place, units, row: ended.update({place: row}))
    decoders = [ended[place] for place in range(len(sources))]
    policies = [WaitKPolicy(1)] * len(sources)
    counts = assert_streamed_equals_trained(model, processor, sources, policies, as_output(decoders))
    assert counts["multi-token words"], counts
    return counts["replacements"]


@pytest.mark.parametrize(("name", "positions"), [("Falcon", None), *CASES])
def test_refilled_rows_stream_what_training_gives(processor, name, positions):
    model = make_model(processor) if name == "Falcon" else make_family(name, processor, positions)
    assert refilled_rows_equal_trained(model, processor, sentences(9, 6))
    # And where the step chooses for all rows at once, or a glossary has its say.
    for glossary in (None, {"dog": "Dackel", "two": "two"}):
        refilled_rows_equal_trained(
            model, processor, sentences(10, 6), logits_processor=None, glossary=glossary, max_new_tokens=12
        )


@pytest.mark.parametrize("name", ["Falcon", "Llama"])
def test_refilled_rows_of_speech_too(name):
    processor = make_speech_processor()
    assert refilled_rows_equal_trained(make_speech(name, processor), processor, recordings(5, 5))


@pytest.mark.parametrize("decoder", [RecomputingDecoder, ConverseDecoder])
def test_the_baselines_too(babbler, processor, sources, decoder):
    found = translate_corpus(babbler, processor, sources, sources, WaitKPolicy(2), 3, row_decoder=decoder, **LIMIT)
    for source, instance in zip(sources, found, strict=True):
        output = alone(babbler, processor, source, WaitKPolicy(2), row_decoder=decoder)
        assert (instance.prediction, instance.delays) == (processor.text(output.words[0]), output.delays[0])


def test_sampling_with_a_generator_for_each_sentence(babbler, processor, sources):
    def draws():
        return [torch.Generator().manual_seed(seed) for seed in range(len(sources))]

    options = {"do_sample": True, "temperature": 0.7, "top_k": 20}
    found = translate_corpus(
        babbler, processor, sources, sources, WaitKPolicy(2), 5, generators=draws(), **options, **LIMIT
    )
    for source, instance, draw in zip(sources, found, draws(), strict=True):
        output = alone(babbler, processor, source, WaitKPolicy(2), generators=[draw], **options)
        assert (instance.prediction, instance.delays) == (processor.text(output.words[0]), output.delays[0])
    assert translate_corpus(babbler, processor, sources[:2], sources[:2], WaitKPolicy(2), 5, **options, **LIMIT)


def test_a_glossary_is_bound_once_and_holds_for_all(babbler, processor, sources):
    terms = {"dog": "Hund", "meadow": "Wiese"}
    found = translate_corpus(babbler, processor, sources, sources, WaitKPolicy(2), 4, glossary=terms, **LIMIT)
    for source, instance in zip(sources, found, strict=True):
        output = alone(babbler, processor, source, WaitKPolicy(2), glossary=terms)
        assert (instance.prediction, instance.delays) == (processor.text(output.words[0]), output.delays[0])


def test_a_row_that_ends_makes_place_at_once(babbler, processor, sources, forwards):
    """Fixed batches wait for their longest row."""
    rows = 4
    translate_corpus(babbler, processor, sources, sources, WaitKPolicy(2), rows, **LIMIT)
    refilled = len(forwards)
    forwards.clear()
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    lengths = []
    for start in range(0, len(order), rows):
        batch = [sources[index] for index in order[start : start + rows]]
        output = babbler.generate(
            **processor(source=batch), policy=WaitKPolicy(2), return_dict_in_generate=True, **LIMIT
        )
        lengths += [len(queries) for queries in output.queries]
    # No schedule can do with fewer than the work spread evenly, or the longest sentence.
    assert max(sum(lengths) / rows, max(lengths)) * 0.8 <= refilled < len(forwards)


def test_a_cache_that_is_not_cleared_changes_what_comes_next(babbler, processor, sources, monkeypatch):
    """A mutant."""
    expected = translate_corpus(babbler, processor, sources, sources, WaitKPolicy(2), 2, **LIMIT)
    monkeypatch.setattr(SimulCache, "clear", lambda self, row, keep=0: None)
    found = translate_corpus(babbler, processor, sources, sources, WaitKPolicy(2), 2, **LIMIT)
    assert [each.prediction for each in found] != [each.prediction for each in expected]


def test_progress_counts_sentences_as_they_end(babbler, processor, sources, monkeypatch):
    shown = []

    class Bar(decode.tqdm):
        def update(self, n=1):
            shown.append(n)
            return super().update(n)

    monkeypatch.setattr(decode, "tqdm", Bar)
    translate_corpus(babbler, processor, sources, sources, WaitKPolicy(1), 8, **LIMIT)
    assert shown == [1] * len(sources)


def test_what_is_interrupted_leaves_no_log_and_begins_again(babbler, processor, sources, tmp_path):
    class Interrupts(WaitKPolicy):
        calls = 0

        def reads(self, progress):
            Interrupts.calls += 1
            if Interrupts.calls == 60:
                raise KeyboardInterrupt
            return super().reads(progress)

    def log(policy):
        return finished_log(
            tmp_path / "instances.log",
            "key",
            lambda: translate_corpus(babbler, processor, sources, sources, policy, 4, **LIMIT),
            {},
        )

    with pytest.raises(KeyboardInterrupt):
        log(Interrupts(2))
    assert not list(tmp_path.iterdir())
    assert [each.prediction for each in log(WaitKPolicy(2))] == [each.prediction for each in log(WaitKPolicy(9))]


def test_wrong_arguments_are_named(babbler, processor, sources):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        translate_corpus(babbler, processor, sources, sources, WaitKPolicy(1), 0)
    with pytest.raises(ValueError, match="no_such_thing: no such argument"):
        translate_corpus(babbler, processor, sources, sources, WaitKPolicy(1), no_such_thing=1)
    with pytest.raises(ValueError, match="generators must hold one entry per row, 14, got 1"):
        translate_corpus(
            babbler, processor, sources, sources, WaitKPolicy(1), generators=[torch.Generator()], do_sample=True
        )
    assert translate_corpus(babbler, processor, [], [], WaitKPolicy(1)) == []
    assert translate_lines(babbler, processor, ["a dog . a dog runs ."], [""], WaitKPolicy(1), **LIMIT)[0]


def test_nothing_but_the_limit_of_its_own_row_ends_a_sentence(babbler, processor, sources):
    """A time limit begins with each sentence, and is not the corpus's."""
    rows = CorpusRows(babbler, processor, WaitKPolicy(1), 2, max_time=60.0, **LIMIT)
    ended = {}
    forwards = rows.translate(enumerate(sources), lambda place, units, row: ended.update({place: row.stop_reason}))
    assert sorted(ended) == list(range(len(sources)))
    assert "stopping_criteria" not in ended.values()
    assert forwards > 0


@pytest.mark.parametrize(("extra", "expected"), [({}, 1), ({"max_time": 60.0}, 4), ({"do_sample": True}, 4)])
def test_only_what_begins_anew_is_made_for_each_sentence(babbler, processor, sources, monkeypatch, extra, expected):
    made = []
    real = corpus_rows.decoder_options
    monkeypatch.setattr(corpus_rows, "decoder_options", lambda *args, **kwargs: made.append(1) or real(*args, **kwargs))
    rows = CorpusRows(babbler, processor, WaitKPolicy(1), 2, **extra, **LIMIT)
    rows.translate(enumerate(sources[:3]), lambda place, units, row: None)
    assert len(made) == expected


def test_what_was_made_for_the_same_key_is_not_made_again(tmp_path):
    path, makes = tmp_path / "counts" / "a.json", iter([[1, 2], [3]])
    for key, expected in (("one", [1, 2]), ("one", [1, 2]), ("other", [3]), ("other", [3])):
        assert finished_json(path, key, "flops", lambda: next(makes)) == expected
    for damaged, message in (('{"key": "oth', "a.json' must be JSON"), ("[]", "a.json' must hold a JSON object")):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=message):
            finished_json(path, "other", "flops", list)
