# SPDX-License-Identifier: Apache-2.0
import builtins
import random

import pytest

from transformers_simul.cli import main
from transformers_simul.training.alignment import align_words

WORDS = [("dog", "Hund"), ("cat", "Katze"), ("house", "Haus"), ("tree", "Baum"), ("sees", "sieht"), ("the", "den")]


def toy_corpus(count=400):
    """Sentences whose translation is word by word, in an order that is known."""
    draw = random.Random(3)
    for _ in range(count):
        words = draw.sample(WORDS, draw.randint(2, 5))
        order = list(range(len(words)))
        if draw.random() < 0.5:
            order[-2:] = reversed(order[-2:])
        links = {(index, position) for position, index in enumerate(order)}
        yield [english for english, _ in words], [words[index][1] for index in order], links


@pytest.mark.parametrize("model", ["eflomal", "fast_align", "hmm"])
def test_links_of_a_toy_language_are_found(model):
    pytest.importorskip("thot")
    sources, targets, truth = zip(*toy_corpus(), strict=True)
    found = align_words([[*source[:-1], f"{source[-1]}."] for source in sources], targets, model)
    right = total = 0
    for line, links in zip(found, truth, strict=True):
        pairs = {tuple(map(int, link.split("-"))) for link in line.split()}
        right, total = right + len(pairs & links), total + len(pairs | links)
    assert right / total > 0.8


def test_the_command_writes_a_line_for_each_pair_and_the_same_again(tmp_path, capsys):
    pytest.importorskip("thot")
    sources, targets, _ = zip(*toy_corpus(50), strict=True)
    for name, side in (("en", sources), ("de", targets)):
        (tmp_path / name).write_text("".join(f"{' '.join(words)}\n" for words in side))
    files = [str(tmp_path / "en"), str(tmp_path / "de")]
    assert main(["align", *files, "--output", str(tmp_path / "links")]) == 0
    lines = (tmp_path / "links").read_text().splitlines()
    assert len(lines) == 50
    assert main(["align", *files]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="model must be one of .* got 'giza'"):
        align_words([["a"]], [["b"]], "giza")
    with pytest.raises(ValueError, match="got 1 and 2"):
        align_words([["a"]], [["b"], ["c"]])
    with pytest.raises(ValueError, match="pair 2 must have words on both sides"):
        align_words([["a"], []], [["b"], ["c"]])


def test_the_missing_extra_names_itself(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def without_thot(name, *args, **kwargs):
        if name == "thot":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_thot)
    for name in ("en", "de"):
        (tmp_path / name).write_text("a\n")
    assert main(["align", str(tmp_path / "en"), str(tmp_path / "de")]) == 1
    assert "pip install 'transformers_simul[align]'" in capsys.readouterr().err
