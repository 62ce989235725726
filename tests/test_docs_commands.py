# SPDX-License-Identifier: Apache-2.0
"""The documentation's commands run, one behind the other as they stand, on tiny models and few steps.

What is ours runs in this process. What is not (git, pip, hf, another project's program) is looked at instead.
"""

import configparser
import importlib
import itertools
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from families import make_family
from speech_helpers import Loudness, say, stand_in_for_espeak, write
from test_docs import PAGES, ROOT, SERVED, blocks, reader  # noqa: F401 - a fixture
from test_listen import Speaks
from transformers_simul import checkpoints, cli
from transformers_simul.corpora import Pair
from transformers_simul.speech import transcribers, voice
from transformers_simul.training import data as finetuning_data

# A reader's training would take hours; the last of two equal flags counts.
FEW_STEPS = (
    "--max_steps 2 --use_cpu --bf16 false --per_device_train_batch_size 2 --report_to none --disable_tqdm true "
    "--save_strategy no --eval_strategy no"
).split()
SMALLER = {
    "run_simul_translation.py": [],
    "run_simul_speech.py": "--vocab_size 300 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --encoder_size 16 "
    "--encoder_layers 1 --encoder_heads 2 --mel_bins 8 --chunk_ms 80 --context_ms 160 --unit_tokens 2 --eval_wait_k 3 "
    "--max_predict_samples 2".split(),
    "run_experiment.py": "--target_langs de --systems SM-norec-mod causal-rec --base_steps 2 --flops_sentences 2 "
    "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --vocab_size 300".split(),
}
SENTENCES = ["a dog runs", "two children watch him", "a dog runs over the meadow", "him jumping today"] * 4


def commands(block):
    """Of each command its words, the file that it writes and whether it feeds the next."""
    for line in block.replace("\\\n", " ").splitlines():
        # Bash's quotes with escapes, which shlex does not know.
        line = re.sub(r"\$'(.*?)'", lambda match: shlex.quote(match[1].encode().decode("unicode_escape")), line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, "&&"]:
            if word in ("&&", "|"):
                output = words[words.index(">") + 1] if ">" in words else None
                if words:
                    yield words[: words.index(">")] if output else words, output, word == "|"
                words = []
            else:
                words.append(word)


def look_at(words):
    """Commands of others: that what they name is there."""
    match words:
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case [program, "install", *rest] if program.endswith("pip"):
            options = configparser.ConfigParser()
            options.read(ROOT / "setup.cfg")
            for extra in re.findall(r"(?:transformers_simul|\.)\[(.*?)\]", " ".join(rest)):
                assert set(extra.split(",")) <= set(options["options.extras_require"])
        case ["hf", "upload", _, folder, *_]:
            # What it would send is there.
            assert (Path(folder) / "README.md").is_file()
        case ["comet-score", *_]:
            # As COMET writes it; needs an environment of its own.
            lines = Path("comet/predictions.txt").read_text().splitlines()
            scores = {"comet/predictions.txt": [{"mt": line, "COMET": 0.5} for line in lines]}
            Path("comet/scores.json").write_text(json.dumps(scores))
        case ["ffmpeg", "-i", _, "-f", "s16le", "-ar", "16000", "-ac", "1", "-"]:
            # It converts for `listen`, which then hears nothing here.
            pass
        case ["git", "clone", *_] | ["cd", _] | ["python", "-m", "venv", _]:
            pass
        case ["simuleval/bin/simuleval", *_]:
            # tests/simuleval/record.sh runs it; its environment is its own.
            assert (ROOT / "tests" / "simuleval" / "record.sh").is_file()
        case _:
            raise AssertionError(f"nobody runs or looks at {shlex.join(words)}")


def call(words, text, monkeypatch, capsys):
    """Run a command of ours with this standard input; what it wrote to standard output."""
    name = words[0].removeprefix(".venv/bin/")
    Path("stdin").write_text(text)
    with open("stdin") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        capsys.readouterr()
        if name == "transformers-simul":
            few = ["--port", "0"] if words[1] == "serve" else FEW_STEPS if words[1] in cli.programs.NAMES else []
            assert cli.main([*words[1:], *few]) == 0
        elif words[1] == "-m" and words[2].startswith("transformers_simul."):
            monkeypatch.setattr(sys, "argv", words[2:])
            importlib.import_module(words[2]).main()
        else:
            (script,) = (word for word in words if word.endswith(".py"))
            arguments = words[words.index(script) + 1 :]
            for option, value in itertools.pairwise(words):
                assert option != "--config_file" or (ROOT / value).is_file()
            monkeypatch.setattr(sys, "argv", [script, *arguments, *FEW_STEPS, *SMALLER[Path(script).name]])
            runpy.run_path(str(ROOT / script), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture
def beside(monkeypatch):
    """Servers that a page starts run beside the commands that follow, on a free port."""
    uvicorn = pytest.importorskip("uvicorn")
    from transformers_simul.serving.server import Server

    servers = []

    def run_beside(server):
        thread = threading.Thread(target=uvicorn.Server.run, args=(server,))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        servers.append((server, thread))

    monkeypatch.setattr(Server, "run", run_beside)
    yield servers
    for server, thread in servers:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def at_hand(reader, monkeypatch):  # noqa: F811
    """Files, and stand-ins for what would be downloaded or would wait for somebody."""
    lines = "".join(f"{sentence}\n" for sentence in SENTENCES)
    for name in ("train", "validation", "test"):
        for language in ("en", "de"):
            Path(f"{name}.{language}").write_text(lines)
    rows = "".join(f'{{"en": "{sentence}", "de": "{sentence}", "fr": "{sentence}"}}\n' for sentence in SENTENCES)
    Path("train.jsonl").write_text(rows)
    Path("test.jsonl").write_text(rows)
    Path("captions.txt").write_text(lines)
    for name in ("log", "yaml", "de"):
        shutil.copy(ROOT / "tests" / "omnisteval" / f"talks0.{name}", f"talks.{name}")
    for copied in ("output/talks", "models/falcon-en-de-offline"):
        shutil.copytree("models/simul-falcon-en-de", copied)
    for k in (1, 3):
        Path(f"output/talks/logs/k={k}").mkdir(parents=True)
        shutil.copy("talks.log", f"output/talks/logs/k={k}/instances.log")
    make_family("Qwen3", reader["processor"]).save_pretrained("Qwen/Qwen3-0.6B")
    reader["tokenizer"].save_pretrained("Qwen/Qwen3-0.6B")

    def fetch_checkpoint(name, folder, *_):
        make_family({"gemma3-270m": "Gemma3"}.get(name, "Llama"), reader["processor"]).save_pretrained(folder)
        reader["tokenizer"].save_pretrained(folder)

    monkeypatch.setattr(checkpoints, "fetch_checkpoint", fetch_checkpoint)
    pairs = [Pair(sentence, sentence) for sentence in SENTENCES]
    monkeypatch.setitem(finetuning_data.CORPORA, "home_assistant", lambda *codes: pairs)
    splits = {"test": pairs[:4], "validation": pairs[4:6], "train": pairs[6:]}
    monkeypatch.setattr(finetuning_data, "split_pairs", lambda pairs: splits)
    stand_in_for_espeak(Path(), monkeypatch)
    write("talk.wav", say([*range(12)], 1.0))
    Path("talk.en").write_text("w0 w1 w2\n")
    Path("talk.de").write_text("ein Hund\n")
    monkeypatch.setattr(transcribers, "make_transcriber", lambda name, language: Speaks())
    monkeypatch.setattr(voice, "SileroVoice", Loudness)
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr(gradio.Blocks, "block_thread", gradio.Blocks.close)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_commands_run(page, at_hand, beside, monkeypatch, capsys):
    ran = 0
    for block in blocks(page, "bash"):
        piped = ""
        for words, output, is_piped in commands(block):
            if beside:
                words = [word.replace(SERVED, beside[-1][0].url) for word in words]
            if words[0] == "tail":
                piped = Path(words[-1]).read_text()
                continue
            is_ours = {"transformers-simul", "python", "accelerate"} & {Path(words[0]).name}
            if words[0] == "curl" and beside:
                if not shutil.which("curl"):
                    continue
                assert subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
                ran += 1
            elif is_ours and words[1:3] != ["-m", "venv"]:
                written = call(words, piped or "a dog runs\n", monkeypatch, capsys)
                ran += 1
                if output:
                    assert written
                    Path(output).write_text(written)
                piped = written if is_piped else ""
            else:
                look_at(words)
    assert ran


def test_a_wrong_flag_or_an_unknown_program_is_seen(at_hand, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(["transformers-simul", "score", "instances.log", "--no-such-flag"], "", monkeypatch, capsys)
    with pytest.raises(AssertionError, match="nobody runs"):
        look_at(["curl", "x"])
    text = "a b > c  # d\ne $'f\\ng' && h | i\n"
    expected = [(["a", "b"], "c", False), (["e", "f\ng"], None, False), (["h"], None, True), (["i"], None, False)]
    assert [*commands(text)] == expected
