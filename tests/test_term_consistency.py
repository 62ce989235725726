# SPDX-License-Identifier: Apache-2.0
"""benchmarks/term_consistency.py, on documents that are small enough to count by hand."""

import random
from pathlib import Path

import numpy
import pytest

from transformers_simul.corpora import Pair


@pytest.fixture
def terms(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import term_consistency

    return term_consistency


# Two documents of three sentences. "trade" stands in one of them three times, "minister" twice; "house" has no word in
# the reference of its second sentence.
REFERENCES = [
    {"trade": {"handel"}, "house": {"haus"}},
    {"trade": {"handels"}, "house": set()},
    {"trade": {"gewerbe"}},
    {"minister": {"minister"}},
    {},
    {"minister": {"ministers"}},
]


@pytest.mark.parametrize(("reach", "minister"), [(2, 1), (1, 0)])
def test_repeats_are_counted_in_their_documents(terms, reach, minister):
    repeats = terms.Repeats(REFERENCES, 3, reach)
    assert repeats.counts(REFERENCES).tolist() == [[2, 1, 1], [minister] * 3]
    same_word = [{"trade": {"menschen"}, "minister": {"menschen"}}] * 6
    assert repeats.counts(same_word).tolist() == [[2, 2, 0], [minister, minister, 0]]
    # Also right by a word that the reference has elsewhere; what is missing or new is not kept.
    output = [{"trade": {"gewerben", "menge"}}, {"trade": {"gewerbe"}}, {}, {"minister": {"rat"}}, {}, REFERENCES[5]]
    assert repeats.counts(output).tolist() == [[2, 1, 1], [minister, 0, 0]]


def test_words_of_many_documents_are_no_terms(terms):
    references = [{"year": {"jahr"}}] * 4 + [{}] * 36
    assert [len(terms.Repeats(references, 2, 2).places), len(terms.Repeats(references, 4, 2).places)] == [2, 3]
    assert terms.Repeats(references[:20], 2, 2).places == []
    # Also if the reference has no word for them there.
    references[5:12:2] = [{"year": set()}] * 4
    assert terms.Repeats(references, 2, 2).places == []


def test_endings_and_accents_do_not_matter(terms):
    same = [("hauser", "haus"), ("regierung", "regierungen"), ("neue", "neuen")]
    others = [("haus", "hausbauten"), ("haus", "hase"), ("regierung", "regierungschef")]
    for pairs, expected in ((same, True), (others, False)):
        assert {terms.alike(*order) for pair in pairs for order in (pair, pair[::-1])} == {expected}
    pair = Pair("“Houses in town", "Häuser in der Stadt.")
    assert terms.renderings([pair], ["0-0 1-1 2-2 2-3"]) == [{"houses": {"hauser"}, "town": {"stadt"}}]
    assert terms.renderings([Pair("the house", "")], [""]) == [{"house": set()}]


def test_shares_and_their_differences(terms):
    better, worse = numpy.array([[2, 2, 1], [2, 1, 1]]), numpy.array([[2, 1, 0], [2, 0, 0]])
    assert terms.shares(better).tolist() == [75, 50]
    assert terms.share_differences(better, worse) == ["+50.0 (+50.0 to +50.0)", "+50.0 (+50.0 to +50.0)"]
    assert terms.shares(numpy.zeros((2, 3))).tolist() == [0, 0]


def test_the_table_shows_who_keeps_to_terms(terms):
    pytest.importorskip("thot")
    draw = random.Random(0)
    words = {
        f"{stem}ing": f"{stem}ung" for stem in ("bank", "dresch", "fisch", "glaub", "lern", "mahl", "pfleg", "ruf")
    }
    more = [" ".join(draw.sample([*words], 4)) for _ in range(400)]
    # Each document has terms of its own, and repeats them in every sentence.
    sources = [" ".join([*words][number // 3 * 2 :][:2]) for number in range(12)]
    pairs, train = [
        [Pair(text, " ".join(words[word] for word in text.split())) for text in texts] for texts in (sources, more)
    ]
    references = [pair.target for pair in pairs]
    outputs = {
        ("wait-1", "0"): [*references[:6], *["Menschen"] * 6],
        ("wait-1", "1"): references,
        ("wait-1", "2"): [""] * 12,
    }
    _, count, _, head, _, *rows = terms.table(pairs, outputs, {"0": "none"}, 3, [2], train).splitlines()
    assert count.startswith("16 repeats at most 2 sentences after the last, of 8 terms, such as banking, dresching, ")
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in [head, *rows]]
    assert cells[0][2:] == ["kept, %", "minus none (95%)", "kept and right, %", "minus none (95%)"]
    kept = [float(cell[2]) for cell in cells[1:]]
    assert kept[0] == kept[2] == 100 > kept[1] > kept[3] == 0
    assert [cell[4] for cell in cells[1:]] == ["100.0", "50.0", "100.0", "0.0"]
    assert [cell[5].split()[:1] for cell in cells[1:]] == [[], [], ["+50.0"], ["-50.0"]]
