# SPDX-License-Identifier: Apache-2.0
"""The command line: translate files and what is typed, plot, mask, corpus, card; exit codes and half-written files."""

import functools
import io
import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.request
from contextlib import ExitStack
from importlib.metadata import entry_points

import pytest
import yaml
from huggingface_hub import ModelCard

from helpers import make_model, make_processor
from transformers_simul import WaitKPolicy
from transformers_simul.cli import COMMANDS, main
from transformers_simul.cli.flags import CommandParser
from transformers_simul.cli.keyboard import Terminal, key_by_key, typed_words
from transformers_simul.corpora import Pair
from transformers_simul.evaluation import read_instances
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.training import DataArguments, ModelArguments
from transformers_simul.training import data as finetuning_data
from transformers_simul.training import make_processor as make_training_processor

SOURCES = ["a dog runs over the meadow", "two children watch him", "a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    processor = make_processor()
    model = make_model(processor, seed=3)
    model.generation_config.wait_k = 3
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "source.en"
    path.write_text("".join(f"{line}\n" for line in SOURCES), encoding="utf-8")
    return path


def expected(folder, k):
    from transformers_simul.cli.loading import load

    return translate_corpus(*load(str(folder)), SOURCES, [""] * 3, WaitKPolicy(k))


def test_a_file_is_translated_to_stdout_or_a_file(folder, file, tmp_path, capsys):
    lines = "".join(f"{each.prediction}\n" for each in expected(folder, 3))
    assert main(["translate", str(folder), str(file)]) == 0
    assert capsys.readouterr().out == lines
    assert main(["translate", str(folder), str(file), "--output", str(tmp_path / "target.de")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "target.de").read_text(encoding="utf-8") == lines


def test_json_of_a_file_is_a_log(folder, file, tmp_path, capsys):
    options = ["--json", "--references", str(file), "--wait-k", "1"]
    assert main(["translate", str(folder), str(file), *options]) == 0
    (tmp_path / "instances.log").write_text(capsys.readouterr().out)
    log = read_instances(tmp_path / "instances.log")
    assert [each.delays for each in log] == [each.delays for each in expected(folder, 1)]
    assert [each.reference for each in log] == SOURCES


def test_a_file_with_context_is_one_document(folder, file, tmp_path, capsys):
    options = ["--json", "--references", str(file), "--context-sentences", "1"]
    assert main(["translate", str(folder), str(file), *options]) == 0
    captured = capsys.readouterr()
    (tmp_path / "instances.log").write_text(captured.out)
    log, alone = read_instances(tmp_path / "instances.log"), expected(folder, 3)
    assert (log[0].prediction, log[0].delays) == (alone[0].prediction, alone[0].delays)
    assert [each.reference for each in log] == SOURCES
    assert [each.source_length for each in log] == [6, 4, 2]
    # This model ends nothing by itself.
    assert captured.err.count("a translation was cut off") == 3


def test_what_is_typed_comes_out_word_by_word(folder):
    """Words are written before their line has ended, and a line is a sentence."""
    program = [sys.executable, "-m", "transformers_simul.cli", "translate", str(folder), "--wait-k", "1", "--json"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdin.write(b"a dog ")
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        assert first["line"] == 1
        assert first["delay"] <= 2
        rest, _ = process.communicate(b"runs over the meadow\n\ntwo children watch him\na dog")
    words = [first, *map(json.loads, rest.splitlines())]
    assert process.returncode == 0
    found = {line: [word["delay"] for word in words if word["line"] == line] for line in (1, 3, 4)}
    wanted = [each.delays for each in expected(folder, 1)]
    assert [found[line] for line in (1, 3, 4)] == wanted


TEXT = "a dog runs . two children watch him . a dog"
SENTENCES = ["a dog runs .", "two children watch him .", "a dog"]


def test_every_sentence_of_a_line_is_translated(folder, tmp_path, monkeypatch, capsys):
    """A file's lines and standard input's; the words are those of the sentences alone, and delays count the line's."""
    from transformers_simul.cli.loading import load

    alone = translate_corpus(*load(str(folder)), SENTENCES, [""] * 3, WaitKPolicy(1))
    assert all(each.prediction for each in alone)
    before = [0, 4, 9]
    delays = [start + delay for start, each in zip(before, alone, strict=True) for delay in each.delays]
    (tmp_path / "text").write_text(f"{TEXT}\n{SOURCES[0]}\n")
    capsys.readouterr()
    assert main(["translate", str(folder), str(tmp_path / "text"), "--json", "--wait_k", "1"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["prediction"] == " ".join(each.prediction for each in alone)
    assert (first["delays"], first["source_length"], first["source"]) == (delays, 11, TEXT)
    assert first["elapsed"] == sorted(first["elapsed"])
    assert second["prediction"] == expected(folder, 1)[0].prediction

    with open(tmp_path / "text") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["translate", str(folder), "--json", "--wait-k=1"]) == 0
    words = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [word["text"] for word in words if word["line"] == 1] == first["prediction"].split(" ")
    assert [word["delay"] for word in words if word["line"] == 1] == delays

    assert main(["translate", str(folder), str(tmp_path / "text"), "--wait-k", "1", "--whole-lines"]) == 0
    whole = translate_corpus(*load(str(folder)), [TEXT], [""], WaitKPolicy(1))
    assert capsys.readouterr().out.splitlines()[0] == whole[0].prediction


def test_a_sentence_without_an_end_is_ended(folder, tmp_path, monkeypatch, capsys):
    """However long a line is, all of it is read and translated, from a file and from a pipe."""
    (tmp_path / "text").write_text("a dog runs over " * 5 + "\n")
    flags = ["--max-sentence-words", "4", "--wait-k", "1", "--json"]
    assert main(["translate", str(folder), str(tmp_path / "text"), *flags]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["source_length"] == 20
    assert line["delays"][-1] > 10
    with open(tmp_path / "text") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["translate", str(folder), *flags]) == 0
    assert [json.loads(word)["delay"] for word in capsys.readouterr().out.splitlines()] == line["delays"]


def test_what_is_cut_off_is_said(folder, file, monkeypatch, capsys, caplog):
    from transformers_simul.cli.loading import load

    model = load(str(folder))[0]
    monkeypatch.setattr(type(model), "generate", functools.partialmethod(type(model).generate, max_new_tokens=1))
    assert main(["translate", str(folder), str(file)]) == 0
    errors = capsys.readouterr().err
    for number in (1, 2, 3):
        assert f"line {number}: a translation was cut off (max_new_tokens)" in errors
    assert main(["translate", str(folder), str(file), "--whole-lines"]) == 0
    assert "3 of 3 translations were cut off at their limit of tokens: sentences 1, 2, 3." in caplog.text


def read_until(descriptor, wanted):
    """What a terminal shows, until that is part of it."""
    shown = b""
    while wanted not in shown:
        assert select.select([descriptor], [], [], 120)[0], shown
        shown += os.read(descriptor, 1024)
    return shown


def test_a_terminal_is_read_key_by_key(folder):
    """A word comes out before its line has ended; the backspace key takes back, Ctrl-D ends."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    program = [
        sys.executable,
        "-m",
        "transformers_simul.cli",
        "translate",
        str(folder),
        "--wait-k",
        "1",
        "--show-delays",
    ]
    with subprocess.Popen(program, stdin=theirs, stdout=theirs, stderr=theirs) as process, ExitStack() as stack:
        # Where something is wrong, nobody waits for it.
        stack.callback(process.kill)
        read_until(ours, b"ready: ")
        os.write(ours, b"a dofg\x7f\x7fg ")
        assert b"a dog" in read_until(ours, b"\t")
        os.write(ours, b"runs over\x04")
        read_until(ours, b"a dog runs over")
        # A program that nobody reads from cannot end.
        while process.poll() is None:
            if select.select([ours], [], [], 0.1)[0]:
                os.read(ours, 1024)
        assert process.returncode == 0
    assert termios.tcgetattr(theirs) == before


def test_what_was_typed_before_the_program_was_ready_is_kept():
    ours, theirs = pty.openpty()
    os.write(ours, b"a dog ")
    with key_by_key(theirs):
        assert select.select([theirs], [], [], 60)[0]
        assert os.read(theirs, 100) == b"a dog "
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("pieces", "read", "reason"),
    [
        ([b"\xef\xbb\xbfa dog\nruns \xff on"], ["a", "dog", None, "runs"], "line 2 is not: invalid start byte"),
        ([b"\xef", b"\xbb\xbfa", b" dog\xff on"], ["a"], "line 1 is not: invalid start byte"),
        ([b"a\ndog l\xc3"], ["a", None, "dog"], "line 2 is not: unexpected end of data"),
        ([b"\xef\xbb"], [], "line 1 is not: unexpected end of data"),
    ],
)
def test_a_pipe_may_begin_with_a_byte_order_mark_and_is_read_up_to_what_is_no_text(pieces, read, reason, monkeypatch):
    found, left = [], iter(pieces)
    with monkeypatch.context() as patch:
        patch.setattr("transformers_simul.cli.keyboard.os.read", lambda *which: next(left, b""))
        with pytest.raises(ValueError, match=f"stdin must be UTF-8, but {reason}"):
            found.extend(typed_words(0))
    assert found == read


def test_keys_of_a_terminal(tmp_path):
    """What is typed stands on the last line, what is written above or below it; only the newest part, if it is long."""
    screen = io.StringIO()
    terminal = Terminal(screen)
    reader, writer = os.pipe()
    os.write(writer, "two chx\x7fildren \x7f\x7f watch\x1b[D\x01\r\x7fhim\nläu\x04 no more".encode())
    assert list(typed_words(reader, terminal)) == ["two", "children", "watch", None, "him", None, "läu", None]
    for text in ("zwei", " Kinder", "\n", "x" * 100):
        terminal.write(text)
    lines = screen.getvalue().split("\r\x1b[J")
    assert [line for line in lines if line.endswith("\n")] == [
        "two children  watch\n", "him\n", "läu\n", "zwei Kinder\n",
    ]  # fmt: skip
    assert lines[-1] == "\n" + "x" * 79 + "\x1b[A\r"
    os.close(writer)


def test_delays_of_a_file(folder, file, capsys):
    assert main(["translate", str(folder), str(file), "--show-delays"]) == 0
    sentences = capsys.readouterr().out.split("\n\n")[:3]
    delays = [[int(line.split("\t")[0]) for line in sentence.splitlines()] for sentence in sentences]
    assert delays == [each.delays for each in expected(folder, 3)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--wait-k", "0"], "k must be a whole number of at least 1"),
        (["--references", "{empty}"], "references need json, whose log holds them, got"),
        (["--references", "{empty}", "--json"], "references must hold one line per sentence, 3, got 0"),
        (["--batch-size", "0"], "batch-size must be at least 1"),
        (["--context-sentences", "-1"], "context-sentences must be a whole number of at least 0, got -1"),
        (["--context-sentences", "1", "--whole-lines"], "context-sentences must not stand beside whole-lines"),
        (["--show-delays", "--output", "x"], "output needs a file to translate, and no show-delays"),
    ],
)
def test_wrong_input_is_one_line_and_status_1(folder, file, tmp_path, capsys, flags, message):
    (tmp_path / "empty").write_text("")
    flags = [flag.format(empty=tmp_path / "empty") for flag in flags]
    assert main(["translate", str(folder), str(file), *flags]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


def test_wrong_files(folder, tmp_path, capsys):
    for text, message in (("", "at least one sentence"), ("\n \n", "at least one s"), ("a\n \nb\n", "line 2 is empty")):
        (tmp_path / "wrong").write_text(text)
        assert main(["translate", str(folder), str(tmp_path / "wrong"), "--json"]) == 1
        assert message in capsys.readouterr().err
    assert main(["translate", str(folder), str(tmp_path / "none")]) == 1
    assert main(["translate", str(tmp_path), str(tmp_path / "wrong")]) == 1


def test_a_blank_reference_is_refused_before_the_model_is_loaded(folder, file, tmp_path, capsys):
    lines = file.read_text().splitlines()
    (tmp_path / "references").write_text("\n".join([*lines[:-1], " "]) + "\n")
    assert main(["translate", str(folder), str(file), "--json", "--references", str(tmp_path / "references")]) == 1
    said = capsys.readouterr()
    assert f"references must hold a sentence in every line, but line {len(lines)} is empty" in said.err
    assert "Loading weights" not in said.err


def test_context_that_a_model_was_not_trained_with_is_warned_of(folder, file, capsys):
    assert main(["translate", str(folder), str(file), "--context-sentences", "2"]) == 0
    assert "was trained with context_sentences=0, got 2" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--whole-lines"], ["--context-sentences", "1"]])
def test_a_line_without_words_stays_one(folder, file, tmp_path, capsys, flags):
    assert main(["translate", str(folder), str(file), *flags]) == 0
    whole = capsys.readouterr().out
    first, *rest = file.read_text().splitlines(keepends=True)
    (tmp_path / "gaps").write_text("".join(["\n", first, " \n", *rest]))
    assert main(["translate", str(folder), str(tmp_path / "gaps"), *flags]) == 0
    first, *rest = whole.splitlines(keepends=True)
    assert capsys.readouterr().out == "".join(["\n", first, "\n", *rest])


def test_what_cannot_be_written_costs_no_work(folder, tmp_path, monkeypatch, capsys):
    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("transformers_simul.training.load_pairs", work)
    monkeypatch.setattr("transformers_simul.corpora.read_pairs", work)
    (tmp_path / "file").write_text("")
    assert main(["corpus", "home_assistant", "en", "de", str(tmp_path / "file" / "below")]) == 1
    assert "folder must be a folder that can be written to, got" in capsys.readouterr().err

    def refuse(**kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert main(["heads", str(folder), "a", "b", "--alignment", "c"]) == 1
    assert "model must be a folder that can be written to, got" in capsys.readouterr().err
    assert main(["corpus", "home_assistant", "en", "de", str(tmp_path / "new" / "below")]) == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_says_which_policy_it_is_made_for(folder, file, tmp_path, capsys):
    for number, settings in enumerate(({"wait_k": 1}, {"default_policy": "chunk-2-1"}, {})):
        path = tmp_path / str(number)
        shutil.copytree(folder, path)
        config = path / "generation_config.json"
        kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "wait_k"}
        config.write_text(json.dumps(kept | settings))
        found = []
        for flags in ([], ["--policy", settings.get("default_policy", f"wait-{settings.get('wait_k', 3)}")]):
            assert main(["translate", str(path), str(file), "--json", *flags]) == 0
            found.append([json.loads(line)["delays"] for line in capsys.readouterr().out.splitlines()])
        assert found[0] == found[1]
    assert main(["translate", str(tmp_path / "0"), str(file), "--json", "--wait-k", "full"]) == 0
    assert [json.loads(line)["delays"] for line in capsys.readouterr().out.splitlines()] != found[0]


def test_a_command_line_that_cannot_work_fails_before_torch_is_loaded(folder, file, tmp_path):
    """Typed wrong, damaged or not to be written: one line says so, at once and without asking the Hub."""
    (tmp_path / "output").mkdir()
    shutil.copytree(folder, tmp_path / "output" / "demo")
    for name, missing in (("a", "processor_config.json"), ("b", "tokenizer.json"), ("c", "model.safetensors")):
        shutil.copytree(folder, tmp_path / "output" / name)
        (tmp_path / "output" / name / missing).unlink()
    shutil.copytree(folder, tmp_path / "output" / "torn")
    (tmp_path / "output" / "torn" / "tokenizer.json").write_text('{"version": ')
    cases = [
        (["translate", "output/missing"], "there is no folder 'output/missing'. There are: output/a, output/b, output"),
        (["demo", "./none"], "there is no folder './none'. There are: output/a"),
        (["mask", "source.en", "--source", "a", "--target", "b"], "got the file 'source.en'"),
        (
            ["translate", "output/demo", "--wait-k", "0"],
            "wait-k must be a whole number of at least 1, or 'full', got '0'",
        ),
        (["translate", "output/demo", "--wait_k=-1"], "wait-k must be a whole number"),
        (["mask", "output/demo", "--source", "a", "--target", "b", "--wait-k", "x"], "wait-k must be a whole number"),
        (["demo", "output/demo", "--port", "99999"], "port must be between 1 and 65535, got 99999"),
        (["translate", "output/demo", "source.en", "--output", "output"], "output must be a file, got the folder"),
        (
            ["translate", "output/demo", "source.en", "--output", "source.en/x"],
            "output must be a file that can be writ",
        ),
        (["mask", "output/demo", "--source", "a", "--target", "b", "--path", "output"], "path must be a file, got"),
        (["plot", "logs", "--output", "source.en/x"], "output must be a file that can be written, got 'source.en/x'"),
        (["translate", "output/a"], "'output/a' has no processor_config.json"),
        (["translate", "output/b"], "'output/b' has no tokenizer.json"),
        (["translate", "output/c"], "'output/c' has no *.safetensors"),
        (["translate", "output/torn"], "torn/tokenizer.json' must be JSON"),
        (
            ["train", "--output_dir", "x", "--model_name_or_path", "output/missing"],
            "model_name_or_path must be a folder or a name on the Hub, but there is no folder 'output/missing'. There",
        ),
        (["train", "--model-name-or-path=source.en"], "got the file 'source.en'"),
        (["train", "--model_name_or_path", "output"], "'output' has no config.json"),
        (["evaluate", "--model_name_or_path", "output/a"], "'output/a' has no processor_config.json"),
        (["translate", "output/demo", "none.en"], "none.en: No such file or directory"),
    ]
    code = (
        "import json, sys; from transformers_simul.cli import main\n"
        "for case in json.loads(sys.argv[1]):\n    assert main(case) == 1, case\n"
        "assert not {'torch', 'transformers', 'gradio', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([arguments for arguments, _ in cases])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, (arguments, message) in zip(done.stderr.splitlines(), cases, strict=True):
        assert line.startswith("error: "), arguments
        assert message in line, arguments


def test_a_name_that_the_hub_does_not_know(monkeypatch, capsys):
    """Said at once; then one question, which ends."""
    assert main(["translate", "my-team/no-such-model"]) == 1
    told, error = capsys.readouterr().err.splitlines()
    assert told == "there is no folder 'my-team/no-such-model': looking for it on the Hub"
    assert error.startswith("error: model must be a folder or a name on the Hub, got 'my-team/no-such-model': ")


def test_truncated_weights_are_one_line(folder, file, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert main(["translate", str(tmp_path / "torn"), str(file)]) == 1
    assert "must be whole safetensors files" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tokenizer.json", "[" * 100_000),
        ("tokenizer.json", '{"model": 3}'),
        ("config.json", '{"model_type": "simul_falcon", "alibi": "yes"}'),
        ("tokenizer_config.json", "3"),
        ("processor_config.json", "[" * 100_000),
    ],
)
def test_damaged_configurations_are_one_line(folder, file, tmp_path, capsys, name, text):
    shutil.copytree(folder, tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_text(text)
    assert main(["translate", str(tmp_path / "damaged"), str(file)]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert not captured.out


def test_a_full_disk_is_one_line_and_a_reader_that_leaves_is_quiet(tmp_path, monkeypatch, capsys):
    row = {"index": 0, "prediction": "a", "delays": [1], "elapsed": [1.0], "prediction_length": 1}
    row |= {"reference": "a", "source": "a", "source_length": 1}
    (tmp_path / "instances.log").write_text(json.dumps(row) + "\n")
    arguments = ["score", str(tmp_path / "instances.log"), "--bootstrap", "1"]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(arguments) == 1
        monkeypatch.setattr(sys, "stdout", broken)
        assert main(arguments) == 141
        # What is left goes nowhere, instead of failing again.
        broken.flush()
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


def test_flags_are_spelt_with_hyphens_or_underscores(folder, file, capsys):
    outputs = []
    for flags in (["--wait-k", "1", "--batch-size", "2"], ["--wait_k", "1", "--batch_size=2"]):
        assert main(["translate", str(folder), str(file), *flags]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""


def test_a_program_takes_both_spellings_from_its_own_command_line(monkeypatch):
    parser = CommandParser()
    parser.add_argument("--max-samples", type=int)
    parser.add_argument("--own_paths", action="store_true")
    monkeypatch.setattr(sys, "argv", ["program", "--max_samples", "3", "--own_paths"])
    assert vars(parser.parse_args()) == {"max_samples": 3, "own_paths": True}
    assert parser.parse_args(["--own-paths"]).own_paths


def test_a_wrong_flag_shows_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit):
        main(["score", "x", "--no-such-flag"])
    errors = capsys.readouterr().err
    assert errors.startswith("usage: transformers-simul score ")
    assert errors.endswith("unrecognized arguments: --no-such-flag\n")


def test_wrong_flags_are_status_2(capsys):
    for arguments in (["translate"], ["score", "x", "--nothing"], ["nothing"], []):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


@pytest.mark.slow
def test_every_command_has_help_with_examples(capsys):
    (command,) = [each for each in entry_points(group="console_scripts") if each.name == "transformers-simul"]
    assert command.load() is main
    # Once from outside: the commands are listed at once, without loading torch.
    started = time.perf_counter()
    program = [sys.executable, "-X", "importtime", "-m", "transformers_simul.cli", "--help"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 30
    assert "| torch\n" not in done.stderr
    names = ["translate", "train", "evaluate", "score", "plot", "mask", "demo", "corpus", "align", "heads", "card"]
    names += ["paths", "custom-generate", "subtitles", "listen", "serve", "client", "segmenter"]
    assert all(name in done.stdout for name in names)
    assert len(COMMANDS) == len(names) - 1
    for name in names:
        with pytest.raises(SystemExit) as caught:
            main([name, "--help"])
        assert caught.value.code == 0
        assert "examples:" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupting_leaves_no_half_written_file(folder, tmp_path):
    file, output = tmp_path / "long.en", tmp_path / "long.de"
    file.write_text("a dog runs over the meadow\n" * 20_000)
    output.write_text("old\n")
    program = [sys.executable, "-m", "transformers_simul.cli", "translate", str(folder), str(file)]
    # Whoever runs the tests in the background may have told all children to ignore Ctrl-C.
    options = {
        "stderr": subprocess.PIPE,
        "text": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    }
    with subprocess.Popen([*program, "--output", str(output)], **options) as process:
        for line in process.stderr:
            if "WaitKPolicy" in line:
                break
        process.send_signal(2)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert output.read_text() == "old\n"
    assert sorted(os.listdir(tmp_path)) == ["long.de", "long.en"]


def test_plot_and_card_from_logs(folder, file, tmp_path, capsys):
    from shutil import copytree

    trained = tmp_path / "trained"
    copytree(folder, trained)
    for name, k in (("k=1", "1"), ("k=3", "3"), ("fullsource", "full")):
        assert main(["translate", str(folder), str(file), "--json", "--references", str(file), "--wait-k", k]) == 0
        (trained / "logs" / name).mkdir(parents=True)
        (trained / "logs" / name / "instances.log").write_text(capsys.readouterr().out)
    picture = tmp_path / "curves.png"
    flags = ["--metric", "chrF", "--output", str(picture)]
    assert main(["plot", f"ours={trained / 'logs'}", str(trained / "logs"), *flags]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(trained / "logs"), str(trained / "logs"), *flags]) == 1
    assert "a name of its own" in capsys.readouterr().err
    assert main(["plot", str(tmp_path), *flags]) == 1

    assert main(["card", str(trained), "--name", "team/simul", "--license", "apache-2.0"]) == 0
    card = ModelCard.load(trained / "README.md")
    data = yaml.safe_load((trained / "README.md").read_text().split("---")[1])
    assert (data["library_name"], data["pipeline_tag"], data["language"]) == (
        "transformers",
        "translation",
        ["en", "de"],
    )
    results = card.data.eval_results
    assert {(each.dataset_config, each.metric_type) for each in results} == {
        (line, metric) for line in ("k = 1", "k = 3", "full source") for metric in ("bleu", "chrf", "laal")
    }
    assert "wait_k=3" in card.text
    assert 'processor(source="I have lost my keys.")' in card.text
    assert "| k = 3 |" in card.text

    config = trained / "generation_config.json"
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name != "wait_k"}
    for settings, command, call in (
        ({"default_policy": "confidence:0.6,max=5"}, "simul --show-delays", "), return_dict_in_generate"),
        ({"wait_k": None}, "simul --wait-k 3 --show-delays", "), wait_k=3, return_dict_in_generate"),
    ):
        config.write_text(json.dumps(kept | settings))
        assert main(["card", str(trained), "--name", "team/simul"]) == 0
        text = (trained / "README.md").read_text()
        assert command in text
        assert call in text
    for name in ("config.json", "processor_config.json", "generation_config.json", "training.json"):
        before = (trained / name).read_text() if (trained / name).exists() else "{}"
        for wrong in ("[]", "{"):
            (trained / name).write_text(wrong)
            assert main(["card", str(trained), "--name", "team/simul"]) == 1
            assert f"{name}' must" in capsys.readouterr().err
        (trained / name).write_text(before)


def test_a_curve_may_have_a_folder_with_an_equals_sign(folder, file, tmp_path, capsys):
    assert main(["translate", str(folder), str(file), "--json", "--references", str(file)]) == 0
    logs = tmp_path / "seed=1" / "logs"
    (logs / "k=3").mkdir(parents=True)
    (logs / "k=3" / "instances.log").write_text(capsys.readouterr().out)
    for given in (f"ours={logs}", str(logs)):
        assert main(["plot", given, "--output", str(tmp_path / "curve.svg")]) == 0
    assert "ours" not in (tmp_path / "curve.svg").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.svg", "seed=1", "source.en"]


def test_train_ends_like_the_other_commands(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--output_dir", str(tmp_path / "out"), "--report_to", "none", "--use_cpu"])
    assert str(caught.value.code).startswith("error: train_file or dataset_name must give train pairs")
    cases = [
        (["--do_trian"], "unrecognized arguments: --do-trian; did you mean --do_train?"),
        (["--learning_rate", "abc"], "invalid float value: 'abc'"),
    ]
    for flags, message in cases:
        with pytest.raises(SystemExit) as caught:
            main(["train", "--output_dir", str(tmp_path / "out"), *flags])
        assert caught.value.code == 2
        usage, error = capsys.readouterr().err.splitlines()
        assert usage.startswith("usage:")
        assert "--help" in usage
        assert message in error
    cases = [
        (["--early_stopping_patience", "2"], "error: early_stopping_patience needs --load_best_model_at_end"),
        (["--eval_wait_k", "0"], "error: k must be a whole number of at least 1, got 0"),
    ]
    for flags, message in cases:
        with pytest.raises(SystemExit) as caught:
            main(["train", "--output_dir", str(tmp_path / "out"), "--report_to", "none", "--use_cpu", *flags])
        assert str(caught.value.code).startswith(message)


def test_code_of_a_folder_is_refused_in_our_own_flags(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / "tokenizer_config.json"
    settings = {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    assert main(["mask", str(tmp_path / "model"), "--source", "a", "--target", "b"]) == 1
    assert "runs only with --trust-remote-code" in capsys.readouterr().err
    with pytest.raises(ValueError, match="must have a tokenizer without code of its own"):
        make_training_processor(ModelArguments(model_name_or_path=str(tmp_path / "model")), DataArguments(), [])


@pytest.mark.slow
def test_the_page_says_where_it_is_and_answers(folder):
    program = [sys.executable, "-m", "transformers_simul.cli", "demo", str(folder), "--port", "7953"]
    options = {
        "stderr": subprocess.PIPE,
        "text": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    }
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, **options) as process:
        url = next(line.split()[1] for line in process.stderr if line.startswith("open "))
        assert url.startswith("http://127.0.0.1:7953")
        with urllib.request.urlopen(url, timeout=60) as page:
            assert b"Simultaneous translation" in page.read()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_page_names_a_port_that_is_taken(folder, capsys):
    pytest.importorskip("gradio")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert main(["demo", str(folder), "--port", str(port)]) == 1
    assert f"host and port must be ours to listen on, got '127.0.0.1' and {port}" in capsys.readouterr().err


def test_a_name_brings_no_code_into_a_card(folder, tmp_path, capsys):
    for name in ("a\nimport os", 'x").eval(); print("', "a; rm -r b", "a/b/c", "", "a\n"):
        assert main(["card", str(folder), "--name", name]) == 1
        assert "name must be NAME or OWNER/NAME" in capsys.readouterr().err
        assert main(["custom-generate", str(tmp_path / "new"), "--name", name]) == 1
        assert "name must be NAME or OWNER/NAME" in capsys.readouterr().err
    assert not (folder / "README.md").exists()
    assert not (tmp_path / "new").exists()
    # A folder may be called anything.
    assert main(["custom-generate", str(tmp_path / 'odd "name"\n')]) == 0
    assert 'custom_generate="odd-name",' in (tmp_path / 'odd "name"\n' / "README.md").read_text()


def test_a_missing_extra_names_itself(tmp_path, monkeypatch, capsys):
    row = {"index": 0, "prediction": "a", "delays": [1], "elapsed": [1.0], "prediction_length": 1}
    row |= {"reference": "a", "source": "a", "source_length": 1}
    (tmp_path / "k=1").mkdir()
    (tmp_path / "k=1" / "instances.log").write_text(json.dumps(row) + "\n")
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    assert main(["score", str(tmp_path / "k=1" / "instances.log")]) == 1
    assert "pip install 'transformers_simul[measure]'" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "transformers_simul.evaluation.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["plot", str(tmp_path), "--output", str(tmp_path / "x.png")]) == 1
    assert "pip install 'transformers_simul[plot]'" in capsys.readouterr().err


def test_card_needs_a_model(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 1
    assert "must hold a model saved with its processor" in capsys.readouterr().err


def test_corpus_writes_a_file_per_split_and_language(tmp_path, monkeypatch, capsys):
    pairs = [Pair(f"source {number}\nmore", f"target {number}") for number in range(800)]
    monkeypatch.setitem(finetuning_data.CORPORA, "home_assistant", lambda *codes: pairs)
    assert main(["corpus", "home_assistant", "en", "de", str(tmp_path)]) == 0
    counts = {path.name: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert counts == {
        "train.en": 50, "train.de": 50, "validation.en": 150, "validation.de": 150, "test.en": 600, "test.de": 600,
    }  # fmt: skip
    assert capsys.readouterr().out == ""


# Pictures whose labels leave no room, or cannot be drawn, are warned of.
@pytest.mark.filterwarnings("error:.*(collapsed|missing from font)")
def test_mask(folder, tmp_path, capsys):
    texts = ["--source", "a dog runs", "--target", "two children"]
    flags = ["--output", str(tmp_path / "mask.png"), "--path", str(tmp_path / "path.png")]
    assert main(["mask", str(folder), *texts, *flags]) == 0
    assert "agree in" in capsys.readouterr().out
    assert (tmp_path / "mask.png").stat().st_size > 1000
    assert (tmp_path / "path.png").stat().st_size > 1000


@pytest.mark.filterwarnings("error:.*(collapsed|missing from font)")
def test_paths(folder, tmp_path, capsys):
    from transformers_simul.cli.loading import load

    picture = tmp_path / "paths.png"
    names = ["wait-1", "full", "learned:0.01,max=3"]
    assert main(["paths", str(folder), "--source", SOURCES[0], "--policy", *names, "--output", str(picture)]) == 0
    model, processor = load(str(folder))
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(names, lines, strict=False):
        told = model.generate(**processor(source=SOURCES[0]), policy=name, return_dict_in_generate=True)
        pairs = zip(processor.words(told.words[0]), told.delays[0], strict=True)
        assert line == f"{name}: {' '.join(f'{word}/{delay}' for word, delay in pairs)}"
    assert len({line.partition(":")[2] for line in lines[:3]}) > 1
    assert picture.stat().st_size > 5000
    for wrong, message in (("weit-3", "policy must be one of"), ("alignatt-2", "transformers-simul heads writes")):
        flags = ["--policy", "wait-1", wrong, "--output", str(tmp_path / "none.png")]
        assert main(["paths", str(folder), "--source", "a", *flags]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_the_page_says_what_it_needs(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", str(folder)]) == 1
    assert "pip install 'transformers_simul[page]'" in capsys.readouterr().err
    assert main(["demo", str(folder), "--max-streams", "0"]) == 1


def test_wait_k_in_generate_and_in_the_generation_configuration(folder):
    from transformers_simul.cli.loading import load

    model, processor = load(str(folder))
    inputs, options = processor(source=SOURCES), {"return_dict_in_generate": True}
    told = model.generate(**inputs, policy=WaitKPolicy(3), **options)
    assert model.generate(**inputs, wait_k=3, **options).delays == told.delays
    assert model.generate(**inputs, **options).delays == told.delays
    assert model.generate(**inputs, wait_k=1, **options).delays != told.delays
    with pytest.raises(ValueError, match="wait_k must not stand beside a policy"):
        model.generate(**inputs, policy=WaitKPolicy(2), wait_k=2)
    with pytest.raises(ValueError, match="model must be in evaluation mode"):
        model.train().generate(**inputs, wait_k=2)
    model.eval()
    # Plain ids are translated by nobody's policy.
    assert model.generate(inputs["input_ids"], max_new_tokens=2).shape[0] == 3
