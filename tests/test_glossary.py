# SPDX-License-Identifier: Apache-2.0
"""Glossaries: what they find, what they change, what they leave, alone, in batches and in the engine."""

import random

import httpx
import pytest
import torch

import serving
from helpers import make_model, make_processor, teach
from speech import make_speech_processor
from test_generation import assert_streamed_equals_trained, feed_later, run, sentences
from transformers_simul import (
    ConfidencePolicy,
    Glossary,
    HoldPolicy,
    OfflinePolicy,
    PlainSimulClient,
    StreamEngine,
    WaitKPolicy,
    translate_stream,
)
from transformers_simul.cli import main
from transformers_simul.live_page.visitors import Visitors
from transformers_simul.models.glossary import bound_glossary
from transformers_simul.models.glossary_row import BoundGlossary
from transformers_simul.models.glossary_terms import TermTree
from transformers_simul.models.row import Reading

TERMS = {"dog": "Dackel", "green meadow": "grüne Wiese am Hang", "children": "children", "high": "high"}


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture(scope="module")
def model(processor):
    """Copies most words."""
    return teach(make_model(processor, seed=5), processor, random.Random(0), 200)


def due(terms, source, processor):
    row = bound_glossary(terms, processor.prompt).row()
    row.read(processor.encode(source))
    return dict(row.due)


def test_terms_are_found_in_any_case_with_punctuation_and_endings(processor):
    terms = {"Haus": "house", "Rotes Kreuz": "Red Cross", "Kreuz": "cross", "42": "42", "Ei": "egg", "C++": "C++"}
    assert due(terms, "das HAUS, des „Hauses“: Häuser Hausboote", processor) == {"house": 2}
    assert due(terms, "Rotes Kreuz! Rotes Haus rotes Kreuz", processor) == {"Red Cross": 2, "house": 1}
    assert due(terms, "42 421 eier ei C C++", processor) == {"42": 1, "egg": 1, "C++": 1}
    assert due(terms, "Rotes", processor) == {}


def test_numbers_are_terms_that_stay_as_they_are(processor):
    numbers = Glossary(copy_numbers=True)
    source = "in (2018), $100 50% A380 dog 2018. 1,000 3.5 10:30 3rd -5 1990s"
    assert due(numbers, source, processor) == {"2018": 2, "100": 1, "50": 1, "A380": 1}
    assert due({"dog": "Dackel"}, source, processor) == {"Dackel": 1}
    # What is part of a term is translated as the term says.
    terms = Glossary({"42": "hoch", "7 dogs": "sieben"}, copy_numbers=True)
    assert due(terms, "42 dogs, 7 dogs, 7 a", processor) == {"hoch": 1, "sieben": 1, "7": 1}
    assert repr(numbers) == "Glossary({}, strength=6.0, copy_numbers=True)"
    assert numbers != Glossary()
    # No glossary counts as none given.
    assert numbers
    assert Glossary()


@pytest.mark.parametrize("sign", "-+−±–‑")
def test_a_number_after_a_sign_is_left_to_the_model(processor, sign):
    source = f"{sign}5 ({sign}5) {sign}$5 $7 8{sign}"
    assert due(Glossary(copy_numbers=True), source, processor) == {"7": 1, "8": 1}


def test_a_number_gets_a_bonus_until_it_is_written(processor):
    numbers = Glossary(copy_numbers=True)

    def is_changed(source, target, expected="start", **kwargs):
        _, before, after = prefer(processor, numbers, source, target, expected, **kwargs)
        return not torch.equal(before, after)

    assert is_changed("a 2018", "")
    assert not is_changed("a 2018", "", read=1)
    for written in ("2018", "2018%", "2018er", "(2018)", "vor-2018"):
        assert not is_changed("a 2018", f"a {written}"), written
    assert is_changed("a 2018", "a 12018")
    assert is_changed("a 2018 dog 2018", "a 2018 dog")
    assert not is_changed("a 1,000", "")
    # It ends where it ends: further digits would make it another.
    ids, before, after = prefer(processor, numbers, "a 20 dog", "a 20", "any")
    bonus = (after - before).nan_to_num()[0]
    longer = processor.encode_piece("205")[0]
    assert longer[:-1] == ids[1 - len(longer) :]
    assert bonus[longer[-1]] == 0
    assert bonus[processor.prompt.rule.ends_word].min() > 0


def test_a_visitors_terms_leave_numbers_to_be_copied(model, processor):
    shared = Glossary({"two": "zwei"}, 12.0, copy_numbers=True)
    visitors = Visitors(StreamEngine(model, processor, max_streams=1), glossary=shared)
    own = visitors.glossary_of("dog = Dackel")
    assert own == Glossary({"two": "zwei", "dog": "Dackel"}, 12.0, copy_numbers=True)


def test_a_number_that_the_vocabulary_cannot_write_is_left_alone(processor, monkeypatch):
    bound = bound_glossary(Glossary(copy_numbers=True), processor.prompt)
    (ids,) = processor.encode("2018")
    assert bound.number(ids).text == "2018"
    monkeypatch.setattr(bound.rule, "may_hold", lambda token, expected: False)
    assert bound.number(ids) is None


def test_numbers_are_copied_and_the_logits_stay(model, processor):
    numbers = Glossary(strength=30.0, copy_numbers=True)
    sources = ["a 42 runs over him", "two children watch 7 7", "dog over the meadow 2018"]
    plain = run(model, processor, sources, WaitKPolicy(2), logits_processor=None)
    output = run(model, processor, sources, WaitKPolicy(2), logits_processor=None, glossary=numbers)
    assert_streamed_equals_trained(model, processor, sources, [WaitKPolicy(2)] * 3, output)
    for row, (source, number) in enumerate(zip(sources, ("42", "7", "2018"), strict=True)):
        words = processor.words(output.words[row])
        place = words.index(number)
        assert output.delays[row][place] > source.split().index(number)
        assert words[:place] == processor.words(plain.words[row])[:place]
        assert words.count(number) <= source.split().count(number)
    live = run(model, processor, feed_later(sources), WaitKPolicy(2), logits_processor=None, glossary=numbers)
    assert live.words == output.words


@pytest.mark.parametrize(
    ("terms", "strength", "message"),
    [
        ({"...": "a"}, 1, r"a source term must have a letter or a digit, got '\.\.\.'"),
        ({"a": ""}, 1, "a target term must have a letter or a digit, got ''"),
        ({"a b c d e f g h i j k": "x"}, 1, "a source term must have at most 10 words, got 11: 'a b c"),
        ({"a": 3}, 1, "a target term must have a letter or a digit, got 3"),
        ([("Dog", "x"), ("dog", "y")], 1, "one target term, but 'dog' has 'x' and 'y'"),
        ({}, 0, "strength must be a number above 0, got 0"),
        ({}, float("nan"), "strength must be a number above 0, got nan"),
    ],
)
def test_what_is_no_glossary_says_so(terms, strength, message):
    with pytest.raises(ValueError, match=message):
        Glossary(terms, strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"dog\tDackel\ndog Dackel\n", "line 2: must be a source term, a tab and its target term, got 'dog Dackel'"),
        (b"a\tb\tc\n", "line 1: must be a source term, a tab"),
        (b"\n\ndog\t\n", "line 3: a target term must have a letter or a digit, got ''"),
        (b"dog\tx\nDog!\ty\n", "line 2: a source term must have one target term, but 'Dog!' has 'x' and 'y'"),
        (b"\xff\t\n", "must be UTF-8 text"),
    ],
)
def test_a_file_that_is_wrong_names_its_line(tmp_path, text, message):
    (tmp_path / "terms.tsv").write_bytes(text)
    with pytest.raises(ValueError, match=rf"glossary '.*terms.tsv'.*{message}"):
        Glossary.from_file(tmp_path / "terms.tsv")


def test_a_file_is_read_whatever_its_line_ends(tmp_path):
    (tmp_path / "terms.tsv").write_bytes("\ufeffdog\tDackel\r\n\r\ngreen meadow \t Wiese\r\n".encode())
    read = Glossary.from_file(tmp_path / "terms.tsv", strength=2)
    assert read == Glossary({"dog": "Dackel", "green meadow": "Wiese"}, 2) != Glossary({"dog": "Dackel"}, 2)


def test_a_glossary_needs_a_policy_words_and_terms(model, processor):
    with pytest.raises(ValueError, match="glossary needs a policy, or wait_k"):
        model.generate(**{"input_ids": torch.tensor([[5]])}, glossary=TERMS)
    with pytest.raises(ValueError, match=r"glossary must be a Glossary or a mapping of terms, got 'terms.tsv'"):
        model.generate(**processor(source="a dog"), wait_k=1, glossary="terms.tsv")
    with pytest.raises(ValueError, match="glossary must hold one entry per row, 1, got 2"):
        model.generate(**processor(source="a dog"), wait_k=1, glossary=[TERMS, None])
    for other in (make_processor(unit="char"), make_processor(unit="token"), make_speech_processor()):
        with pytest.raises(ValueError, match="glossary needs words as units of source and target"):
            bound_glossary(TERMS, other.prompt)


def words_of(model, processor, source, glossary=None, **options):
    output = model.generate(
        **processor(source=source), policy=WaitKPolicy(2), glossary=glossary, return_dict_in_generate=True, **options
    )
    return [processor.words(words) for words in output.words]


def test_terms_are_written_once_they_were_read_and_the_rest_stays(model, processor):
    sources = ["a dog runs over him", "two children watch the dog", "dog over the meadow"]
    plain = words_of(model, processor, sources)
    inputs, glossary = processor(source=sources), Glossary({"dog": "jumping today"}, 30.0)
    output = model.generate(**inputs, wait_k=2, glossary=glossary, return_dict_in_generate=True)
    for row, source in enumerate(sources):
        words = processor.words(output.words[row])
        place = words.index("jumping")
        assert output.delays[row][place] >= source.split().index("dog") + 1
        assert words[place : place + 2] == ["jumping", "today"]
        assert words.count("jumping") == 1
        assert "jumping" not in plain[row]
        assert words[:place] == plain[row][:place]
    # A glossary whose terms are not there changes nothing.
    assert words_of(model, processor, sources, {"jumping": "hüpfend"}) == plain


@pytest.mark.parametrize(
    "policy", [WaitKPolicy(1), WaitKPolicy(3), OfflinePolicy(), ConfidencePolicy(0.5), HoldPolicy(1)], ids=repr
)
@pytest.mark.parametrize("live", [False, True])
def test_logits_are_those_of_the_masked_forward(model, processor, policy, live):
    sources = sentences(3, 6)
    given = feed_later(sources) if live else sources
    glossary = Glossary(TERMS, 12.0)
    plain = run(model, processor, sources, policy, logits_processor=None)
    output = run(model, processor, given, policy, logits_processor=None, glossary=glossary)
    assert output.words != plain.words
    if not policy.heads and type(policy) in (WaitKPolicy, OfflinePolicy):
        assert_streamed_equals_trained(model, processor, sources, [policy] * 6, output)
    else:
        assert_streamed_equals_trained(model, processor, sources, [_AsItWas(each) for each in output.delays], output)


class _AsItWas:
    """The schedule that a policy which looks has followed."""

    def __init__(self, delays):
        self._delays = delays

    def delays(self, source_words, target_words):
        return [*self._delays, source_words]


def test_a_row_gets_the_same_alone_in_any_batch_and_in_the_engine(model, processor):
    sources, glossary = sentences(7, 8), Glossary(TERMS, 12.0)
    alone = [words_of(model, processor, source, glossary)[0] for source in sources]
    assert alone != words_of(model, processor, sources)
    assert words_of(model, processor, sources, glossary) == alone
    # Rows with and without, each as it is alone.
    mixed = words_of(model, processor, sources, [glossary if row % 2 else None for row in range(8)])
    assert mixed[1::2] == alone[1::2]
    assert mixed[::2] == words_of(model, processor, sources)[::2]
    assert words_of(model, processor, feed_later(sources), glossary) == alone
    with StreamEngine(model, processor, max_streams=4) as engine:
        for start in (0, 4):
            streams = [engine.open(WaitKPolicy(2), glossary=glossary, wait_s=60) for _ in range(4)]
            for stream, source in zip(streams, sources[start:], strict=False):
                stream.source.put(source)
                stream.source.end()
            assert [[word.text for word in stream] for stream in streams] == alone[start : start + 4]
    words = translate_stream(model, processor, sources[1].split(), WaitKPolicy(2), glossary=glossary)
    assert [word.text for word in words] == alone[1]


def test_sampling_knows_no_neighbours_either(model, processor):
    sources, glossary = sentences(9, 4), Glossary(TERMS, 12.0)

    def sampled(sources, first):
        generators = [torch.Generator().manual_seed(first + row) for row in range(len(sources))]
        return words_of(model, processor, sources, glossary, do_sample=True, generators=generators)

    assert sampled(sources, 0) == [sampled([source], row)[0] for row, source in enumerate(sources)]


def test_unread_terms_change_nothing(model, processor):
    source = "a runs over the meadow while two dog"
    plain, with_terms = (
        run(model, processor, source, WaitKPolicy(2), glossary=glossary) for glossary in (None, Glossary(TERMS, 30.0))
    )
    read = len(source.split())
    before = [word for word, delay in zip(plain.words[0], plain.delays[0], strict=True) if delay < read]
    after = [word for word, delay in zip(with_terms.words[0], with_terms.delays[0], strict=True) if delay < read]
    assert before == after
    assert before


def prefer(processor, terms, source, target, expected, read=None, strength=2.0):
    """Scores, all 0 before, with one row's glossary."""
    glossary = terms if isinstance(terms, Glossary) else Glossary(terms, strength)
    row = bound_glossary(glossary, processor.prompt).row()
    reading = Reading([], head_is_fed=True)
    for word in processor.encode(source)[:read]:
        reading.read(word)
    ids = [token for word in processor.encode(target, "target") for token in word] if target else []
    rule = processor.prompt.rule
    scores = rule.bar(torch.zeros(1, len(processor.tokenizer)), expected)
    return ids, scores, row.prefer(scores, expected, reading, ids)


def test_a_bonus_keeps_what_word_starts_have_together_and_eos(processor):
    rule = processor.prompt.rule
    start = processor.encode_piece("Dackel")[0][0]
    for expected in ("start", "any"):
        _, before, after = prefer(processor, TERMS, "a dog runs", "ein", expected)
        old, new = before.softmax(-1)[0], after.softmax(-1)[0]
        starts = rule.ends_word.clone()
        starts[rule.eos_token_id] = False
        assert torch.allclose(old[starts].sum(), new[starts].sum())
        assert torch.allclose(old[~starts], new[~starts])
        others = starts.clone()
        others[start] = False
        assert torch.allclose(new[start] / new[others][0], torch.tensor(2.0).exp())


def test_a_bonus_is_for_what_was_read_and_is_not_written(processor):
    def is_changed(*args, **kwargs):
        _, before, after = prefer(processor, TERMS, *args, **kwargs)
        return not torch.equal(before, after)

    assert is_changed("a dog", "", "start")
    assert not is_changed("a dog", "", "start", read=1)
    assert not is_changed("a dog", "ein Dackel", "start")
    assert not is_changed("a dog", "ein Dackelblick ist", "start")
    assert is_changed("a dog and dog", "ein Dackel ist", "start")
    assert not is_changed("a dog and dog", "Dackel Dackel", "start")
    assert is_changed("the green meadow", "die grüne Wiese", "start")
    assert not is_changed("the green meadow", "die grüne Wiese am Hang", "start")
    assert not is_changed("a dog", "ein", "continue")


def test_what_was_begun_goes_on_and_is_not_begun_again(processor):
    ids = processor.encode_piece("Dackel")[0]
    rule = processor.prompt.rule
    assert len(ids) > 2
    row = bound_glossary(Glossary(TERMS, 2.0), processor.prompt).row()
    reading = Reading([], head_is_fed=True)
    for word in processor.encode("a dog"):
        reading.read(word)
    for expected in ("any", "continue"):
        scores = rule.bar(torch.zeros(1, len(processor.tokenizer)), expected)
        for written in (1, 2):
            # The more is written, the more the rest is preferred.
            after = row.prefer(scores, expected, reading, [*processor.encode_piece("ein")[0], *ids[:written]])
            assert (after - scores).nan_to_num().nonzero().tolist() == [[0, ids[written]]]
            assert after[0, ids[written]] == scores[0, ids[written]] + 2.0 * written


def test_a_name_that_is_copied_ends_where_it_ends(processor):
    rule = processor.prompt.rule

    def raised(terms, source, target):
        ids, before, after = prefer(processor, terms, source, target, "any")
        return ids, (after - before).nan_to_num()[0]

    name = {"Jumping": "Jumping"}
    ids, bonus = raised(name, "a Jumping runs", "a Jumping")
    mark = processor.encode_piece("Jumping.")[0]
    assert mark[:-1] == ids[-len(mark) + 1 :]
    ends = rule.ends_word.clone()
    assert bonus[ends].unique().tolist() == [2.0]
    assert bonus[mark[-1]] == 2.0
    letters = [processor.encode_piece(f"Jumping{letter}")[0][len(mark) - 1] for letter in "qz7"]
    assert bonus[letters].tolist() == [0.0, 0.0, 0.0]
    # Not with an ending in the source, in the midst of it, or where it is a translation.
    assert not raised(name, "a Jumpings runs", "a Jumping")[1].any()
    assert not raised(name, "a Jumping runs", "a Jumping over")[1].any()
    assert not raised({"dog": "Jumping"}, "a dog runs", "a Jumping")[1].any()


def test_a_target_that_begins_without_a_space(processor):
    bare = make_processor(template="{source} =>{target}")
    first = bare.encode("Dackel", "target")[0][0]
    assert first != bare.encode_piece("Dackel")[0][0]
    _, before, after = prefer(bare, TERMS, "a dog", "", "bare")
    assert after[0, first] > before[0, first]
    row_of = make_model(bare, seed=2)
    output = run(row_of, bare, ["a dog runs"], WaitKPolicy(2), glossary=Glossary(TERMS, 30.0), logits_processor=None)
    assert_streamed_equals_trained(row_of, bare, ["a dog runs"], [WaitKPolicy(2)], output)
    assert bare.words(output.words[0])[0].startswith("Dackel")


def test_sentences_of_an_endless_stream_have_their_own_terms(model, processor):
    glossary = Glossary(TERMS, 12.0)
    texts = ["a dog runs", "two children watch him", "the dog"]
    alone = [word for text in texts for word in words_of(model, processor, text, glossary)[0]]
    with StreamEngine(model, processor, max_streams=1) as engine:
        stream = engine.open(WaitKPolicy(2), sentences=True, glossary=glossary)
        for text in texts:
            stream.source.put(f"{text} ")
            stream.source.end_sentence()
        stream.source.end()
        assert [word.text for word in stream] == alone


def test_a_stream_that_was_cut_off_goes_on_with_its_terms(model, processor):
    source, glossary = "a dog watch two children while dog runs", Glossary(TERMS, 12.0)
    whole = run(model, processor, source, WaitKPolicy(2), glossary=glossary, logits_processor=None)
    for cut in range(1, len(whole.words[0])):
        shown = list(zip(whole.words[0], whole.delays[0], strict=True))[:cut]
        again = run(
            model, processor, source, WaitKPolicy(2), glossary=glossary, committed=[shown], logits_processor=None
        )
        assert again.words == whole.words


def may_be(word, stem):
    may_end = len(stem) >= 3 and stem[-1].isalpha()
    return word == stem or (may_end and word.startswith(stem) and len(word) - len(stem) <= 3)


def due_by_hand(terms, words):
    """The oracle: every term at every place; of equally long ones that with the shorter endings, word by word."""
    found, place = [], 0
    while place < len(words):
        here = [
            (-len(term), [len(words[place + number]) - len(stem) for number, stem in enumerate(term)], target)
            for term, target in ((source.split(), target) for source, target in terms.items())
            if place + len(term) <= len(words)
            and all(may_be(words[place + number], stem) for number, stem in enumerate(term))
        ]
        found += [min(here)[2]] if here else []
        place += -min(here)[0] if here else 1
    return {target: found.count(target) for target in found}


def test_the_first_and_longest_term_counts_word_by_word(processor):
    draw = random.Random(4)
    vocabulary = ["ab", "abc", "abcd", "abcde", "abc1", "abc1s", "abcdefgh", "xyz", "xyzs"]
    several = 0
    for _ in range(300):
        terms = {" ".join(draw.choices(vocabulary, k=draw.randint(1, 3))): f"t{number}" for number in range(6)}
        words = draw.choices(vocabulary, k=9)
        expected = due_by_hand(terms, words)
        assert due(terms, " ".join(words), processor) == expected
        # However they come.
        row, encoded = bound_glossary(terms, processor.prompt).row(), processor.encode(" ".join(words))
        for start, end in ((0, 2), (2, 3), (3, 9)):
            row.read(encoded[start:end])
        assert dict(row.due) == expected
        several += len(expected) > 2
    assert several > 50


def test_many_terms_cost_no_comparison_with_each(processor, monkeypatch):
    asked = []
    by = TermTree.by
    monkeypatch.setattr(TermTree, "by", lambda self, word: asked.append(word) or by(self, word))
    words = ["abc"] * 300
    for terms in (
        {f"abc x{number}": "x" for number in range(2000)},
        {f"abc{number}x": "x" for number in range(2000)},
        {f"abcdef{number}": "x" for number in range(2000)},
    ):
        asked.clear()
        assert due(terms | {"dog": "Dackel"}, " ".join([*words, "dog"]), processor) == {"Dackel": 1}
        # Each word with what begins there, and with what the word before began.
        assert len(asked) <= 2 * len(words) + 2


def test_opening_a_stream_makes_no_ids_of_terms_that_are_not_due(model, processor, monkeypatch):
    """A server's other clients wait meanwhile, and a stranger's longest glossary took five seconds."""
    made = []
    encoded = BoundGlossary._encoded
    monkeypatch.setattr(BoundGlossary, "_encoded", lambda self, text: made.append(text) or encoded(self, text))
    terms = {f"x{number}": f"y{number}" for number in range(2000)} | {"dog": "Dackel", "him": "a\ud800"}
    with pytest.raises(ValueError, match="must be Unicode without lone surrogates"):
        bound_glossary(terms, processor.prompt)
    made.clear()
    engine = StreamEngine(model, processor, max_streams=2)
    streams = [engine.open(WaitKPolicy(2), glossary=terms) for _ in range(2)]
    assert made == []
    for stream, source in zip(streams, ("a dog runs", "watch him"), strict=True):
        stream.source.put(source)
        stream.source.end()
    while engine.step():
        pass
    assert set(made) == {"Dackel", "a\ud800"}
    assert [word.text for word in streams[0]] == words_of(model, processor, "a dog runs", {"dog": "Dackel"})[0]
    with pytest.raises(ValueError, match="must be Unicode without lone surrogates"):
        list(streams[1])


@pytest.fixture(scope="module")
def folder(model, processor, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_the_command_line_takes_a_file(folder, model, processor, tmp_path, monkeypatch, capsys):
    sources = ["a dog runs over him", "two children watch him"]
    (tmp_path / "text.en").write_text("".join(f"{source}\n" for source in sources))
    (tmp_path / "terms.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in TERMS.items()))
    (tmp_path / "numbers.en").write_text("a dog runs over 42\n")
    numbers = Glossary(strength=30.0, copy_numbers=True)
    wanted = words_of(model, processor, "a dog runs over 42", numbers)[0]
    assert "42" in wanted
    copying = ["--wait-k", "2", "--copy-numbers", "--glossary-strength", "30"]
    assert main(["translate", str(folder), str(tmp_path / "numbers.en"), *copying]) == 0
    assert capsys.readouterr().out.split() == wanted
    flags = ["--wait-k", "2", "--glossary", str(tmp_path / "terms.tsv"), "--glossary-strength", "12"]
    wanted = [" ".join(each) for each in words_of(model, processor, sources, Glossary(TERMS, 12.0))]
    assert wanted != [" ".join(each) for each in words_of(model, processor, sources)]
    for more in ([], ["--whole-lines"]):
        assert main(["translate", str(folder), str(tmp_path / "text.en"), *flags, *more]) == 0
        assert capsys.readouterr().out.splitlines() == wanted
    assert main(["translate", str(folder), str(tmp_path / "text.en"), *flags, "--show-delays"]) == 0
    shown = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines() if line]
    assert shown == " ".join(wanted).split()


def test_a_glossary_that_is_wrong_costs_no_model(folder, tmp_path, capsys):
    (tmp_path / "terms.tsv").write_text("dog Dackel\n")
    for flags, message in (
        (["--glossary", str(tmp_path / "terms.tsv")], "line 1: must be a source term"),
        (["--glossary", str(tmp_path / "none.tsv")], "none.tsv"),
        (["--glossary-strength", "3"], "glossary-strength needs a glossary or copy-numbers, got 3.0"),
    ):
        assert main(["translate", str(folder), *flags]) == 1
        assert message in capsys.readouterr().err


def test_a_server_takes_terms_for_each_language():
    parts = serving.tiny()
    terms = [
        {"source": "dog", "target": "Dackel", "target_lang": "de"},
        {"source": "dog", "target": "chien", "target_lang": "fr"},
        {"source": "two", "target": "high"},
    ]
    given = {"glossary": terms, "glossary_strength": 12.0}
    text = "a dog runs over him. two children watch. "

    numbers = "7 dog runs . "

    def alone(glossary, text=text):
        with StreamEngine(*parts, max_streams=1) as engine:
            stream = engine.open(WaitKPolicy(1), sentences=True, glossary=glossary, max_new_tokens=12)
            stream.source.put(text)
            stream.source.end()
            return [word.text for word in stream]

    async def serve():
        async with serving.running({"one": parts}) as server:
            async with server.connect() as socket:
                await serving.say(socket, serving.start(**given), serving.source(text), serving.END)
                shown = [word["text"] for word in serving.words(await serving.rest(socket))]
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                body = {"text": text, "options": {"max_new_tokens": 12}, **given}
                whole = (await client.post("/v1/translate", json=body)).json()
                body = {"text": numbers, "copy_numbers": True, "glossary_strength": 30.0}
                body["options"] = {"max_new_tokens": 12}
                copied = (await client.post("/v1/translate", json=body)).json()["text"]
            async with server.connect() as socket:
                twice = [{"source": "dog", "target": "x"}, {"source": "Dog", "target": "y"}]
                await serving.say(socket, serving.start(glossary=twice))
                (error,) = await serving.rest(socket)
        assert shown == whole["text"].split() == alone(Glossary({"dog": "Dackel", "two": "high"}, 12.0))
        assert shown != alone(None)
        assert copied.split() == alone(Glossary(strength=30.0, copy_numbers=True), numbers)
        assert copied.split() != alone(None, numbers)
        assert (error["code"], error["action"]) == ("bad_option", "fix")
        assert "'Dog' has 'x' and 'y'" in error["message"]

    serving.run(serve())


def test_clients_send_terms_and_the_page_has_them(tmp_path, monkeypatch, capsys):
    parts, terms, text = serving.tiny(), {"dog": "Dackel"}, "dog runs over him. "
    (tmp_path / "terms.tsv").write_text("dog\tDackel\n")

    def told(words):
        return [(word.text, word.delay) for word in words]

    def alone(glossary):
        with StreamEngine(*parts, max_streams=1) as engine:
            stream = engine.open(WaitKPolicy(1), sentences=True, glossary=glossary)
            stream.source.put(text)
            stream.source.end()
            return told(stream)

    wanted = alone(Glossary(terms, 12.0))
    assert wanted != alone(None)
    with serving.in_thread({"one": parts}) as server:
        for given in (terms, [{"source": "dog", "target": "Dackel", "target_lang": "de"}]):
            with PlainSimulClient(server.url).open(glossary=given, glossary_strength=12.0) as stream:
                stream.put(text)
                stream.end()
                assert told(stream) == wanted
        with pytest.raises(ValueError, match=r"glossary.0.target: String should have at least 1 character"):
            PlainSimulClient(server.url).open(glossary={"dog": ""}).__enter__()
        (tmp_path / "text").write_text(text + "\n")
        with open(tmp_path / "text") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            flags = ["--glossary", str(tmp_path / "terms.tsv"), "--glossary-strength", "12", "--show-delays"]
            assert main(["client", server.url, *flags]) == 0
        shown = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line]
        assert [(word, int(delay)) for delay, _, word in shown] == wanted

    async def play():
        with StreamEngine(*parts, max_streams=1) as engine:
            visitors = Visitors(engine, glossary=Glossary(terms, 12.0))
            async for _ in visitors.play("me", text, 20, "wait-1", "nothing"):
                pass
            return told(visitors.turns["me"].panels[0].target)

    assert serving.run(play()) == wanted

    async def play_with(given, shared):
        with StreamEngine(*parts, max_streams=1) as engine:
            visitors = Visitors(engine, glossary=shared)
            shown = [each async for each in visitors.play("me", text, 20, "wait-1", "nothing", terms=given)]
            turn = visitors.turns.get("me")
            return shown[-1][0], turn and told(turn.panels[0].target)

    # A visitor's own terms, which also count before those of the page.
    lines = "\n".join(f"{source.upper()} = {target}" for source, target in terms.items())
    for shared in (Glossary(dict.fromkeys(terms, "meadow"), 12.0), Glossary({}, 12.0)):
        assert serving.run(play_with(f"\n{lines}\n", shared))[1] == wanted
    for given, message in (("dog", "each line must be a source term"), ("dog = ", "Terms: ")):
        state, turn = serving.run(play_with(given, None))
        assert (message in state, turn) == (True, None), state
