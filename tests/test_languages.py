# SPDX-License-Identifier: Apache-2.0
"""Several languages in one model: per row, per stream, per example, by flag, on the card and the page."""

import json
import random

import pytest
import torch

from helpers import TEMPLATE, make_model, make_processor, make_tokenizer, random_sentence
from test_generation import assert_streamed_equals_trained, feed_later, run, sentences
from transformers_simul import (
    SimulMaskDataCollator,
    SimulProcessor,
    StreamEngine,
    WaitKPolicy,
    translate_stream,
)
from transformers_simul.cli import main
from transformers_simul.live_page import build_page
from transformers_simul.models.policies import MixturePolicy
from transformers_simul.publishing.model_card import write_model_card

# The language stands before the source here, so that heads differ too.
HEAD_TEMPLATE = "{source_lang} to {target_lang}: {source}\n=> {target}"
LANGUAGES = ["de", "fr", "nl"]


@pytest.fixture(scope="module", params=[TEMPLATE, HEAD_TEMPLATE])
def processor(request):
    return make_processor(template=request.param, target_langs=LANGUAGES)


@pytest.fixture(scope="module")
def model(processor):
    return make_model(processor, seed=3)


def test_other_languages_change_the_prompt_alone(processor, tmp_path):
    french = processor.with_languages(target_lang="fr")
    made = SimulProcessor(processor.tokenizer, target_lang="fr", template=processor.template)
    assert french.prompt.head + french.prompt.tail == made.head_ids + made.tail_ids
    assert french.prompt.head + french.prompt.tail != processor.prompt.head + processor.prompt.tail
    assert french.encode("a dog") == processor.encode("a dog")
    assert processor.with_languages(target_lang="fr") is french
    assert french.with_languages(target_lang="de") is processor.with_languages() is processor
    french.save_pretrained(tmp_path)
    again = SimulProcessor.from_pretrained(tmp_path)
    assert (again.target_lang, again.target_langs) == ("fr", LANGUAGES)
    assert again.with_languages(target_lang="de").prompt.tail == processor.prompt.tail
    # What was saved before there were several knows one.
    config = json.loads((tmp_path / "processor_config.json").read_text())
    del config["target_langs"], config["source_langs"]
    (tmp_path / "processor_config.json").write_text(json.dumps(config))
    assert SimulProcessor.from_pretrained(tmp_path).target_langs == ["fr"]


def test_a_language_that_the_processor_does_not_know_is_refused(processor):
    with pytest.raises(ValueError, match=r"target_lang must be one of .*'nl'\], got 'xx'"):
        processor(source="a dog", target_lang="xx")
    with pytest.raises(ValueError, match=r"source_lang must be one of .*\['en'\], got 'de'"):
        processor.with_languages(source_lang="de")
    with pytest.raises(ValueError, match="target_lang must be one for all or one for each of the 2 sources"):
        processor(source=["a dog", "a"], target_lang=["de"])
    for known in (["fr", "nl"], "de", ["de", 1]):
        with pytest.raises(ValueError, match="target_langs must be a list of languages with target_lang='de'"):
            make_processor(target_langs=known)
    with pytest.raises(ValueError, match=r"template must name \{target_lang\} for the languages"):
        make_processor(template="{source} => {target}", target_langs=LANGUAGES)


def test_a_chat_knows_several_languages():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}:{{ message.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    chat = SimulProcessor.from_chat_template(tokenizer, target_lang="de", target_langs=LANGUAGES)
    alone = SimulProcessor.from_chat_template(tokenizer, target_lang="fr")
    assert chat.with_languages(target_lang="fr").prompt.head == alone.prompt.head
    assert "French" in tokenizer.decode(alone.head_ids)


@pytest.mark.parametrize("live", [False, True])
def test_rows_of_a_batch_get_what_they_get_alone_and_what_training_gives(model, processor, live):
    sources, targets = sentences(5, 3), ["fr", "de", "nl"]
    given = feed_later(sources) if live else sources
    inputs = processor(source=given, target_lang=targets)
    alone = [processor.with_languages(target_lang=target) for target in targets]
    assert inputs["prompt"] == [each.prompt for each in alone]
    plain = run(model, alone[0], sources[:1], WaitKPolicy(1))
    output = model.generate(
        **inputs, policy=WaitKPolicy(1), max_new_tokens=40, return_dict_in_generate=True, output_logits=True
    )
    differs = []
    for row, (own, source) in enumerate(zip(alone, sources, strict=True)):
        single = model.generate(
            **own(source=source), wait_k=1, max_new_tokens=40, return_dict_in_generate=True, output_logits=True
        )
        assert output.words[row] == single.words[0]
        of_row = type(output)(
            sequences=None, logits=[output.logits[row]], words=[output.words[row]], delays=[output.delays[row]],
            queries=[output.queries[row]],
        )  # fmt: skip
        assert_streamed_equals_trained(model, own, [source], [WaitKPolicy(1)], of_row)
        other = model.generate(**processor(source=source), wait_k=1, max_new_tokens=40, return_dict_in_generate=True,
                               output_logits=True)  # fmt: skip
        differs.append(own is not processor and not torch.equal(other.logits[0][:1], single.logits[0][:1]))
    assert differs == [True, False, True]
    assert plain.words


def test_streams_of_an_engine_have_languages_of_their_own_also_in_one_place(model, processor):
    """The place holds the head of the stream before, which is another language's."""
    texts = sentences(7, 6)
    engine = StreamEngine(model, processor, max_streams=1, max_tokens=300)
    for text, language in zip(texts, ["de", "fr", "fr", "nl", None, "fr"], strict=True):
        stream = engine.open(WaitKPolicy(1), target_lang=language, max_new_tokens=40)
        stream.source.put(text)
        stream.source.end()
        while engine.step():
            pass
        own = processor.with_languages(target_lang=language)
        alone = model.generate(**own(source=text), wait_k=1, max_new_tokens=40, return_dict_in_generate=True)
        assert [word.text for word in stream.words] == own.words(alone.words[0])
        words = translate_stream(
            model, processor, text.split(), WaitKPolicy(1), target_lang=language, max_new_tokens=40
        )
        assert [word.text for word in words] == own.words(alone.words[0])
    with pytest.raises(ValueError, match="target_lang must be one of"):
        engine.open(WaitKPolicy(1), target_lang="xx")
    assert engine.active_streams == 0


def test_the_collator_takes_a_column(processor):
    policy = MixturePolicy([WaitKPolicy(1), WaitKPolicy(3)])
    pairs = [{"source": text, "target": text.upper()} for text in sentences(3, 3)]
    collator = SimulMaskDataCollator(processor, policy)
    collator.set_epoch(1)
    batch = collator([pair | {"target_lang": language} for pair, language in zip(pairs, LANGUAGES, strict=True)])
    for row, (pair, language) in enumerate(zip(pairs, LANGUAGES, strict=True)):
        own = SimulMaskDataCollator(processor.with_languages(target_lang=language), policy)
        own.set_epoch(1)
        expected = own([pair])["input_ids"][0]
        assert batch["input_ids"][row][: len(expected)].tolist() == expected.tolist()
    assert torch.equal(collator(pairs)["input_ids"], collator([p | {"target_lang": None} for p in pairs])["input_ids"])
    # Pairs that are too long are counted, whatever their language.
    drops = SimulMaskDataCollator(processor, WaitKPolicy(1), max_length=3, too_long="drop")
    with pytest.raises(ValueError, match="leaves no pair"):
        drops([pairs[0] | {"target_lang": "fr"}])
    assert drops.dropped == 1


def test_one_training_several_targets(tmp_path, monkeypatch, capsys):
    """From flags to folder, card, command line and page."""
    draw = random.Random(0)
    for name, count in (("train", 12), ("test", 2)):
        rows = [
            {"en": text, "de": text.upper(), "fr": text[::-1]} for text in (random_sentence(draw) for _ in range(count))
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "model"
    flags = (
        "--vocab_size 300 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --max_steps 2 --wait_k 1 "
        f"--eval_wait_k 1 2 --source_lang en --stream_sentences 1 --use_cpu --disable_tqdm 1 --report_to none "
        f"--target_langs fr de --output_dir {output} --test_file {tmp_path / 'test.jsonl'}"
    ).split()
    assert main(["train", *flags, "--do_predict", "--train_file", str(tmp_path / "train.jsonl")]) == 0
    assert (output / "fr" / "logs" / "k=1" / "instances.log").is_file()
    assert (output / "de" / "results.md").is_file()
    processor = SimulProcessor.from_pretrained(output)
    assert (processor.target_lang, processor.target_langs) == ("fr", ["fr", "de"])
    record = json.loads((output / "training.json").read_text())
    assert record["target_langs"] == ["fr", "de"]
    assert record["about"]["pairs"] == 24
    card = (output / "README.md").read_text()
    assert "Translates text from English to French or German" in card
    assert 'target_lang="de"' in card
    (tmp_path / "text").write_text("a dog runs\n")
    capsys.readouterr()
    assert main(["translate", str(output), str(tmp_path / "text"), "--target-lang", "de"]) == 0
    assert main(["translate", str(output), str(tmp_path / "text"), "--target-lang", "xx"]) == 1
    assert "target_lang must be one of" in capsys.readouterr().err


def test_cards_and_page_list_the_languages(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert "Targets: de, fr, nl" in write_model_card(tmp_path).read_text()
    pytest.importorskip("gradio")
    page = build_page(model, processor, max_streams=1)
    (dropdown,) = [each for each in page.config["components"] if each["props"].get("elem_id") == "language"]
    assert [choice[0] for choice in dropdown["props"]["choices"]] == LANGUAGES
    assert dropdown["props"]["visible"]
    assert "en\u00a0→\u00a0de, fr, nl" in page.title


def test_a_server_finds_the_source_language_that_has_all_targets():
    pytest.importorskip("starlette")
    from transformers_simul.serving.failure import Failure
    from transformers_simul.serving.messages import Start
    from transformers_simul.serving.metrics import Metrics
    from transformers_simul.serving.models import choose, serve_models

    processor = make_processor(
        source_lang="en", target_lang="fr", source_langs=["en", "de"], target_langs=["fr", "en"], template=HEAD_TEMPLATE
    )
    served = serve_models({"one": (make_model(processor), processor)}, Metrics())

    def chosen(*targets):
        return [(each.source_lang, each.target_lang) for each in choose(served, Start(target_langs=[*targets]))]

    assert chosen("fr") == [("en", "fr")]
    assert chosen("fr", "en") == [("de", "fr"), ("de", "en")]
    with pytest.raises(Failure, match="No such model here translates from any one language to fr and nl"):
        chosen("fr", "nl")


def test_a_server_translates_into_each_language_of_a_model(processor, model):
    pytest.importorskip("starlette")
    from serving import END, rest, running, say, source, start, until, words
    from serving import run as run_async

    text = "a dog runs over the meadow"

    async def main():
        async with running({"one": (model, processor)}) as server:
            async with server.connect() as socket:
                await say(socket, start(target_langs=["fr", "nl"]))
                (started,) = await until(socket, "started")
                assert (started["models"], started["source_lang"]) == ({"fr": "one", "nl": "one"}, "en")
                await say(socket, source(text), END)
                messages = words(await rest(socket))
            async with server.connect() as socket:
                await say(socket, start(), source(text), END)
                messages += words(await rest(socket))
            async with server.connect() as socket:
                await say(socket, start(target_langs=["xx"]))
                assert (await rest(socket))[-1]["code"] == "unknown_model"
            assert [served.about()["target_lang"] for served in server.service.served] == LANGUAGES
            return messages

    messages = run_async(main())
    for language in LANGUAGES:
        own = processor.with_languages(target_lang=language)
        alone = model.generate(**own(source=text), wait_k=1, max_new_tokens=12, return_dict_in_generate=True)
        assert [word["text"] for word in messages if word["target_lang"] == language] == own.words(alone.words[0])
