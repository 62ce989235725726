# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import shutil
import subprocess
import sys
import zipfile

import pandas
import pytest

from transformers_simul.cli import main
from transformers_simul.corpora import (
    Pair,
    home_assistant,
    load_home_assistant,
    load_libreoffice,
    load_wesnoth,
    read_pairs,
)
from transformers_simul.downloads import file_sha256
from transformers_simul.training import DataArguments, load_pairs

PAIRS = [Pair("A dog", "Ein Hund"), Pair("Two “cats”, yes", "Zwei\u2028Katzen, ja")]


def write(path, pairs=PAIRS):
    rows = [{"en": pair.source, "de": pair.target} for pair in pairs]
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pandas.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".tsv":
        path.write_text("en\tde\n" + "".join(f"{r['en']}\t{r['de']}\n" for r in rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_tables(tmp_path, suffix):
    assert read_pairs(write(tmp_path / f"pairs{suffix}"), "en", "de") == PAIRS


def test_nested_translation_column_and_gzip(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    line = json.dumps({"translation": {"en": "A dog", "de": "Ein Hund"}}) + "\n"
    path.write_bytes(gzip.compress(line.encode()))
    assert read_pairs(str(path), "en", "de") == PAIRS[:1]


def test_columns_of_languages_or_of_sides(tmp_path):
    """A table that the Trainer takes is one for the commands too."""
    (tmp_path / "pairs.jsonl").write_text('{"source": "A dog", "target": "Ein Hund"}\n')
    assert read_pairs(str(tmp_path / "pairs.jsonl"), "en", "de") == PAIRS[:1]
    (tmp_path / "pairs.jsonl").write_text('{"source": "A dog", "target": "Ein Hund", "en": "Two"}\n')
    with pytest.raises(ValueError, match="row 1 of .* must have column 'de', got"):
        read_pairs(str(tmp_path / "pairs.jsonl"), "en", "de")


def two_files(tmp_path, source, target):
    files = [tmp_path / "text.en", tmp_path / "text.de"]
    for path, data in zip(files, (source, target), strict=True):
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return [str(path) for path in files]


def test_two_text_files_with_any_line_ends(tmp_path):
    files = two_files(tmp_path, "A dog\r\nTwo “cats”, yes\r\n", "Ein Hund\nZwei\u2028Katzen, ja")
    assert read_pairs(files, "en", "de") == PAIRS


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a\nb\n", "a\n", r"equally many lines: .*text.en' has 2, .*text.de' 1"),
        ("a\n\nc\n", "a\nb\nc\n", "source of pair 2 in .* must hold at least one word, got ''"),
        ("a\nb\n", "a\n \t\n", "target of pair 2"),
        ("", "", "holds no sentence pair"),
        (b"a\nb\xff\n", "a\nb\n", r"text.en' must be UTF-8, but line 2 is not"),
    ],
)
def test_bad_text_files(tmp_path, source, target, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(two_files(tmp_path, source, target), "en", "de")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"en": "a", "fr": "b"}\n', "row 1 of .* must have column 'de', got \\['en', 'fr'\\]"),
        ("a.jsonl", '{"en": "a"\n', "line 1 of .* must be JSON"),
        ("a.jsonl", "[1]\n", "must be a JSON object"),
        ("a.jsonl", '{"en": "a", "de": null}\n', "target of pair 1"),
        ("a.csv", "en,fr\na,b\n", "must have column 'de'"),
        ("a.docx", "x", "must end in one of"),
        ("a.jsonl", "[" * 100_000, "line 1 of .* must be JSON that is nested less deeply"),
        ("a.csv", f'en,de\na,b\n"{"x" * 200_000}",b\n', "a.csv' must be a table, but line 3 is not: field larger"),
        ("a.tsv", "en\tde\na\r\rb\tc\n", "a.tsv' must be a table, but line 2 is not: new-line character"),
        ("a.parquet", "PAR1 no table PAR1", "a.parquet' must be a whole Parquet file"),
    ],
)
def test_bad_tables(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_pairs(str(tmp_path / name), "en", "de")


def test_missing_file_and_too_many(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_pairs(str(tmp_path / "none.csv"), "en", "de")
    with pytest.raises(ValueError, match="one table or two text files, got 3"):
        read_pairs(["a", "b", "c"], "en", "de")


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel of the same shape, so that nothing is downloaded."""
    path = tmp_path / home_assistant.WHEEL.file_name
    with zipfile.ZipFile(path, "w") as archive:
        english = {
            "a": {"b": "Turn the light on now", "c": "Set {name} to a value", "d": "Too short"},
            "e": "Turn it all off now",
        }
        german = {"a": {"b": "Schalte jetzt das Licht ein", "c": "Setze {name} auf einen Wert", "d": "Zu kurz"}}
        for language, tree in (("en", english), ("de", german)):
            archive.writestr(f"homeassistant/components/x/translations/{language}.json", json.dumps(tree))
    monkeypatch.setattr(home_assistant, "WHEEL", home_assistant.WHEEL._replace(sha256=file_sha256(path)))
    return tmp_path


PAGE = """<html><body><h1 id="hd_id1"><a name="x"></a>Inserting a Chart into Text</h1>
<p id="par_id2" class="p">{0} <span class="b">bold</span>
 text</p><p id="other">not a paragraph of help</p><p id="par_id3">a;b = c of code here</p></body></html>"""


needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


def make_package(folder, name, files):
    """A Debian package with these files, under the name that a download has."""
    root = folder / name
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    (root / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    (root / "DEBIAN" / "control").write_text(control)
    package = folder / f"{name}_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(package)], check=True, capture_output=True)


@needs_dpkg
def test_libreoffice_joins_on_page_and_paragraph(tmp_path):
    for language, text in (("en-us", "This is some"), ("de", "Das ist ein wenig")):
        page = f"usr/share/libreoffice/help/{language}/text/swriter/a.html"
        make_package(tmp_path, f"libreoffice-help-{language}", {page: PAGE.format(text).encode()})
    assert load_libreoffice("en", "de", tmp_path) == [Pair("This is some bold text", "Das ist ein wenig bold text")]


TEXTS = {
    "de": {
        "Where are\nthe orcs now? They are in the hills.": "Wo sind die Orks jetzt? Sie sind in den Bergen.",
        "One sentence here. And a second one.": "Hier sind alle beide in einem Satz.",
        "female^She is a brave scout": "Sie ist eine mutige Späherin",
        "You have $gold pieces of gold": "Ihr habt $gold Stück Gold",
        "Nobody has translated this yet": "",
    },
    "it": {"Where are\nthe orcs now? They are in the hills.": "Dove sono gli orchi adesso? Sono tra le colline."},
}


@pytest.fixture
def wesnoth(tmp_path, monkeypatch):
    """Two packages of the same shape."""
    polib = pytest.importorskip("polib")
    for part, languages in (("data", ("de", "it")), ("did", ("de",))):
        files = {}
        for language in languages:
            catalogue = polib.MOFile()
            catalogue.extend(polib.POEntry(msgid=key, msgstr=text) for key, text in TEXTS[language].items())
            path = tmp_path / "made.mo"
            catalogue.save(str(path))
            files[f"usr/share/games/wesnoth/1.16/locale/{language}/LC_MESSAGES/wesnoth-{part}.mo"] = path.read_bytes()
        make_package(tmp_path, f"wesnoth-1.16-{part}", files)
    monkeypatch.setattr("transformers_simul.corpora.wesnoth.PARTS", ["data", "did"])
    return tmp_path


@needs_dpkg
def test_wesnoth_joins_on_messages_and_cuts_at_sentences(wesnoth):
    pairs = [
        Pair("One sentence here. And a second one.", "Hier sind alle beide in einem Satz."),
        Pair("Where are the orcs now?", "Wo sind die Orks jetzt?"),
        Pair("They are in the hills.", "Sie sind in den Bergen."),
        Pair("She is a brave scout", "Sie ist eine mutige Späherin"),
    ]
    assert load_wesnoth("en", "de", wesnoth) == pairs
    assert load_wesnoth("de", "en", wesnoth) == [Pair(target, source) for source, target in pairs]
    assert load_wesnoth("it", "de", wesnoth)[0] == Pair("Dove sono gli orchi adesso?", "Wo sind die Orks jetzt?")


@needs_dpkg
def test_wesnoth_names_a_language_that_it_lacks(wesnoth, monkeypatch):
    with pytest.raises(ValueError, match="language must be one of Wesnoth's translations, such as 'de', got 'xx'"):
        load_wesnoth("en", "xx", wesnoth)
    monkeypatch.setitem(sys.modules, "polib", None)
    with pytest.raises(ValueError, match="pip install 'transformers_simul\\[wesnoth\\]'"):
        load_wesnoth("en", "de", wesnoth)


def test_libreoffice_says_what_it_needs(tmp_path, monkeypatch):
    for missing in ("dpkg-deb", "apt-get"):
        monkeypatch.setattr(shutil, "which", lambda name, missing=missing: None if name == missing else name)
        with pytest.raises(ValueError, match=f"{missing}, which must be there|{missing} must be there"):
            load_libreoffice("en", "de", tmp_path)


@needs_dpkg
def test_a_broken_libreoffice_package_is_named(tmp_path):
    for language in ("en-us", "de"):
        (tmp_path / f"libreoffice-help-{language}_1_all.deb").write_text("no package")
    with pytest.raises(ValueError, match="libreoffice-help-en-us_1_all.deb' must be one that dpkg-deb reads"):
        load_libreoffice("en", "de", tmp_path)


def test_home_assistant_joins_on_keys_and_filters(wheel):
    assert load_home_assistant("en", "de", str(wheel)) == [Pair("Turn the light on now", "Schalte jetzt das Licht ein")]
    with pytest.raises(ValueError, match="language must be one"):
        load_home_assistant("en", "xx", str(wheel))


def test_home_assistant_refuses_another_file(wheel, monkeypatch):
    monkeypatch.setattr(home_assistant, "WHEEL", home_assistant.WHEEL._replace(sha256="0" * 64))
    monkeypatch.setattr("subprocess.run", lambda command, **options: subprocess.CompletedProcess(command, 0))
    with pytest.raises(ValueError, match="must have SHA-256 0000"):
        load_home_assistant("en", "de", str(wheel))


def test_home_assistant_says_what_pip_says(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "a warning\nERROR: No matching distribution\n")
    monkeypatch.setattr("subprocess.run", lambda command, **options: failed)
    with pytest.raises(ValueError, match="homeassistant==.* must be on the package index, but pip says: ERROR: No mat"):
        load_home_assistant("en", "de", str(tmp_path))


@pytest.mark.parametrize("name", ["home_asistant", "homeassistant", "iwslt2017", "", "/"])
def test_a_misspelt_corpus_is_refused_before_any_hub_is_asked(name, tmp_path, monkeypatch, capsys):
    def no_hub(*args, **options):
        raise AssertionError("a hub was asked")

    monkeypatch.setattr("transformers_simul.training.data.load_dataset", no_hub)
    message = "must be home_assistant, libreoffice or wesnoth, or OWNER/NAME of a data set on the Hub"
    with pytest.raises(ValueError, match=message):
        load_pairs(DataArguments(dataset_name=name or "x"))
    assert main(["corpus", name, "en", "de", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.endswith("did you mean home_assistant?\n") == name.startswith("home")


def test_a_data_set_with_a_blank_reference_is_refused_before_any_work(monkeypatch):
    """What is translated must be scored, hours later."""
    rows = [{"translation": {"en": "a dog", "de": text}} for text in ("ein Hund", " ")]
    monkeypatch.setattr("transformers_simul.training.data.load_dataset", lambda *args, **options: {"test": rows})
    with pytest.raises(
        ValueError, match=r"dataset_name must give text on both sides, but test pair 2 is \('a dog', ' '"
    ):
        load_pairs(DataArguments(dataset_name="team/pairs"))


def test_names_of_corpora_are_known_without_heavy_imports():
    """So that a misspelt one is refused at once."""
    code = "import sys; import transformers_simul.corpora; print([n for n in ('torch', 'pyarrow') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
