# SPDX-License-Identifier: Apache-2.0
import random
import re

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LogitsProcessorList, PreTrainedTokenizerFast

from helpers import TEMPLATE, make_model, make_processor, make_tokenizer
from test_generation import Forced, assert_streamed_equals_trained, run, sentences
from transformers_simul import SimulProcessor, SimulStreamer, WaitKPolicy
from transformers_simul.models.processing import FALCON_TEMPLATE
from transformers_simul.models.schedule import BLANK_START, CONTINUES, EOS, NEVER, STARTS
from transformers_simul.models.text import split_words

HARD_TEXTS = [
    "It costs 3.5 dollars .",
    'He said: "U.S. troops" (twice)',
    "no final punctuation",
    "Bonjour\u00a0! Ça va\u202f?",
    "naïve Füße Ελλάδα Привет",
    "flags 🇩🇪 and 👩‍👩‍👧 emoji🙂glued",
    "שלום עולם مرحبا بالعالم",
    "一 二三 word",
    "e\u0301 combining",
    "x",
]


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def sentencepiece_like_tokenizer():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["a dog runs over the meadow"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_words_add_up_and_come_back_unchanged(processor, text):
    words = processor.encode_pair(text, text)["source_ids"]
    assert processor.words(words) == split_words(text)
    assert processor.join(processor.words(words)) == " ".join(text.split(" "))
    whole = processor.tokenizer.encode(f"a {text}", add_special_tokens=False)
    assert whole[len(processor.tokenizer.encode("a")) :] == [token for word in words for token in word]
    for word in words:
        kinds = processor.token_kinds[word].tolist()
        assert kinds[0] in (STARTS, BLANK_START)
        assert set(kinds[1:]) <= {CONTINUES}


def test_no_break_spaces_stay_inside_a_word():
    assert split_words("Bonjour\u00a0! Ça\u202f? a\u2007b c\u3000d\te\n") == [
        "Bonjour\u00a0!",
        "Ça\u202f?",
        "a\u2007b",
        *"cde",
    ]


def test_training_text_and_inference_text_are_the_template_token_for_token(processor):
    source, target = "a dog runs", "two children"
    pair = processor.encode_pair(source, target)
    row = processor.head_ids + sum(pair["source_ids"], []) + processor.tail_ids + sum(pair["target_ids"], [])
    text = TEMPLATE.format(source=source, target=target, target_lang="German")
    assert row == processor.tokenizer.encode(text)
    inputs = processor(source=source)
    assert row[: inputs["input_ids"].shape[1]] == inputs["input_ids"][0].tolist()


def test_template_and_languages():
    processor = SimulProcessor(make_tokenizer(), "en", "fr")
    assert processor.template == FALCON_TEMPLATE
    head = processor.tokenizer.decode(processor.head_ids)
    assert head == "Translate the following sentence from English to French:"
    assert processor.tokenizer.decode(processor.tail_ids) == "\nAssistant:"
    named = SimulProcessor(make_tokenizer(), "English", "Klingon")
    assert named.tokenizer.decode(named.head_ids).endswith("from English to Klingon:")
    bare = SimulProcessor(make_tokenizer(), template="{source} => {target}")
    assert bare.head_ids == []


@pytest.mark.parametrize(
    "template",
    ["{target} {source}", "a{source} b {target}", "a {source} {target}", "a {source}{target}", "{source} b"],
)
def test_bad_templates(template):
    with pytest.raises(ValueError, match="template must read"):
        SimulProcessor(make_tokenizer(), template=template)


def test_batches_are_padded_on_the_left_and_marked(processor):
    inputs = processor(source=["a", "a dog runs"])
    short, long = inputs["source_words"].tolist()
    assert long == sorted(long[: -len(processor.tail_ids)]) + [-1] * len(processor.tail_ids)
    padding = len(long) - len(processor.head_ids) - len(processor.tail_ids) - len(processor.encode("a")[0])
    assert short[:padding] == [-2] * padding
    assert inputs["attention_mask"][0].tolist() == [0] * padding + [1] * (len(long) - padding)


@pytest.mark.parametrize("source", ["", "  \n", "\u3000", None, [], ["a", ""]])
def test_empty_sources_are_errors(processor, source):
    with pytest.raises(ValueError, match=r"source must"):
        processor(source=source)


def test_word_table_of_a_byte_level_tokenizer(processor):
    tokenizer, kinds = processor.tokenizer, processor.token_kinds
    assert kinds[tokenizer.eos_token_id] == EOS
    assert kinds[tokenizer.pad_token_id] == NEVER
    for token, kind in (("Ġ", BLANK_START), ("Ċ", NEVER), ("a", CONTINUES), ("Ã", CONTINUES)):
        assert kinds[tokenizer.convert_tokens_to_ids(token)] == kind
    starts = [token for token, index in tokenizer.get_vocab().items() if kinds[index] == STARTS]
    assert starts
    assert all(re.fullmatch("Ġ.+", token) for token in starts)


def test_sentencepiece_like_tokenizer_with_byte_fallback():
    processor = SimulProcessor(sentencepiece_like_tokenizer(), template="{source} to {target}")
    for text in ("a dog runs", "dog 🙂 x"):
        words = processor.encode_pair(text, text)["source_ids"]
        assert processor.words(words) == text.split()
        for word in words:
            kinds = processor.token_kinds[word].tolist()
            assert kinds[0] in (STARTS, BLANK_START)
            assert set(kinds[1:]) <= {CONTINUES}


@pytest.mark.parametrize(("make", "mark"), [(make_tokenizer, "▁x"), (sentencepiece_like_tokenizer, "Ġx")])
def test_the_other_familys_mark_is_a_letter(make, mark):
    """Gemma's vocabulary holds the letter "Ġ"; it made every word a continuation once."""
    tokenizer = make()
    expected = SimulProcessor(tokenizer, template=TEMPLATE).token_kinds.tolist()
    tokenizer.add_tokens([mark])
    assert SimulProcessor(tokenizer, template=TEMPLATE).token_kinds.tolist()[: len(expected)] == expected


@pytest.mark.parametrize("template", ["{source} to {target}", "to: {source}\nto:{target}"])
def test_pieces_of_bytes_are_never_shown_half(template):
    """Emoji and Greek in single bytes: streamed words hold whole characters, whatever the source's pieces are."""
    processor = SimulProcessor(sentencepiece_like_tokenizer(), template=template)
    text = "dog 🙂x Ελλάδα 👩‍👩‍👧 naïve"
    model = make_model(processor, vocab_size=len(processor.tokenizer))
    pair = processor.encode_pair("a b c d e", text)
    assert any(len(word) > 6 for word in pair["target_ids"])
    forced = [token for word in pair["target_ids"] for token in word] + [processor.eos_token_id]
    streamer = SimulStreamer(processor)
    output = model.generate(
        **processor(source="a b c d e"), policy=WaitKPolicy(1), streamer=streamer, max_new_tokens=300,
        logits_processor=LogitsProcessorList([Forced(forced, processor.tail_ids)]), return_dict_in_generate=True,
    )  # fmt: skip
    assert [word.text for word in streamer] == text.split()
    assert output.words[0] == pair["target_ids"]


CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def chat_tokenizer():
    tokenizer = make_tokenizer()
    tokens = ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = CHAT
    return tokenizer


def test_a_chat_template_is_split_exactly(tmp_path):
    tokenizer = chat_tokenizer()
    processor = SimulProcessor.from_chat_template(tokenizer, "en", "de", system="{Be} brief.")
    pair = processor.encode_pair("a dog runs", "two children watch")
    ids = [
        *processor.head_ids,
        *(token for word in pair["source_ids"] for token in word),
        *processor.tail_ids,
        *(token for word in pair["target_ids"] for token in word),
        processor.eos_token_id,
    ]
    chat = [
        {"role": "system", "content": "{Be} brief."},
        {"role": "user", "content": "Translate the following sentence from English to German: a dog runs"},
        {"role": "assistant", "content": "two children watch"},
    ]
    expected = tokenizer.encode(tokenizer.apply_chat_template(chat, tokenize=False).rstrip(), add_special_tokens=False)
    assert ids == expected
    assert tokenizer.convert_ids_to_tokens(processor.eos_token_id) == "<|end|>"
    assert processor.words(pair["target_ids"]) == ["two", "children", "watch"]
    assert processor.bare_first_word
    # What ends a turn is never written, nor what begins one; the tokenizer's own EOS is no EOS here.
    kinds = processor.token_kinds
    assert {int(kinds[tokenizer.convert_tokens_to_ids(name)]) for name in ("<|user|>", "<|endoftext|>")} == {NEVER}
    processor.save_pretrained(tmp_path)
    again = SimulProcessor.from_pretrained(tmp_path)
    assert (again.head_ids, again.tail_ids, again.eos_token_id) == (
        processor.head_ids, processor.tail_ids, processor.eos_token_id,
    )  # fmt: skip


def test_a_chat_streams_under_the_law():
    """The first word stands bare, in training and while streaming; logits agree."""
    processor = SimulProcessor.from_chat_template(
        chat_tokenizer(), "en", "de", instruction="To {target_lang}: {source}"
    )
    model = make_model(processor)
    seen = []
    for seed in range(4):
        sources = sentences(seed, 4)
        output = run(model, processor, sources, WaitKPolicy(1))
        assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(1)] * 4, output)
        for words in output.words:
            kinds = [int(processor.token_kinds[word[0]]) for word in words]
            seen += kinds[:1]
            assert set(kinds[:1]) <= {CONTINUES}
            assert set(kinds[1:]) <= {STARTS, BLANK_START}
    assert len(seen) > 8
    text = "remarkably high today"
    forced = [token for word in processor.encode_pair("a", text)["target_ids"] for token in word]
    rule = LogitsProcessorList([Forced([*forced, processor.eos_token_id], processor.tail_ids)])
    output = run(model, processor, ["a dog runs"], WaitKPolicy(1), logits_processor=rule)
    assert processor.text(output.words[0]) == text


def test_a_line_ends_the_target_of_a_base_model():
    tokenizer = make_tokenizer()
    newline = tokenizer.convert_ids_to_tokens(tokenizer.encode("\n"))[0]
    processor = SimulProcessor(tokenizer, template="English: {source}\nGerman: {target}", eos_token=newline)
    assert processor.token_kinds[processor.eos_token_id] == EOS
    with pytest.raises(ValueError, match="eos_token must be one token of the tokenizer, got '<nothing>'"):
        SimulProcessor(tokenizer, eos_token="<nothing>")
    with pytest.raises(ValueError, match="tokenizer must have a chat_template"):
        SimulProcessor.from_chat_template(make_tokenizer())


def test_characters_as_units():
    processor = make_processor(unit="char")
    text = "一二 3三"
    units = processor.encode(text)
    assert processor.words(units) == list(text)
    assert processor.join(processor.words(units)) == text
    for unit in units:
        kinds = processor.token_kinds[unit].tolist()
        assert kinds[0] == STARTS
        assert set(kinds[1:]) <= {CONTINUES}
    merged = [index for token, index in processor.tokenizer.get_vocab().items() if len(token) == 2 and token.isascii()]
    assert merged
    assert set(processor.token_kinds[merged].tolist()) == {NEVER}


def test_tokens_as_units():
    processor = make_processor(unit="token")
    units = processor.encode_pair("a dog runs", "a dog")["source_ids"]
    assert {len(unit) for unit in units} == {1}
    assert sum(units, []) == sum(make_processor().encode("a dog runs"), [])
    assert set(processor.token_kinds[sum(units, [])].tolist()) == {STARTS}
    assert processor.text(units) == "a dog runs"


def test_a_tokenizer_whose_words_do_not_add_up_says_so():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator(["the dog of the dog of the dog"] * 50, trainer)
    processor = SimulProcessor(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>"), template=TEMPLATE)
    with pytest.raises(ValueError, match="tokenizer must"):
        processor.encode_pair("of the dog of the dog", "the dog")


def test_tokenizers_without_boundaries_or_eos():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    with pytest.raises(ValueError, match="mark word starts"):
        SimulProcessor(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>"), template=TEMPLATE)
    with pytest.raises(ValueError, match="eos_token"):
        SimulProcessor(PreTrainedTokenizerFast(tokenizer_object=tokenizer), template=TEMPLATE)
    with pytest.raises(ValueError, match="unit must be one of"):
        make_processor(unit="syllable")


def test_saved_and_loaded_beside_the_model(tmp_path, processor):
    processor.save_pretrained(tmp_path)
    loaded = SimulProcessor.from_pretrained(tmp_path)
    assert (loaded.template, loaded.unit, loaded.target_lang) == (TEMPLATE, "word", "de")
    assert torch.equal(loaded.token_kinds, processor.token_kinds)
    text = "naïve 🙂 dogs"
    assert loaded.encode(text) == processor.encode(text)
    loaded.save_pretrained(tmp_path / "again")
    assert SimulProcessor.from_pretrained(tmp_path / "again").template == TEMPLATE


def test_random_unicode_round_trips(processor):
    draw = random.Random(0)
    alphabet = "ab Üß\u00a0\u202f\u2009😀\t一.,\"'"
    for _ in range(300):
        text = "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 25)))
        if split_words(text):
            assert processor.words(processor.encode(text)) == split_words(text)
