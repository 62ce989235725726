# SPDX-License-Identifier: Apache-2.0
"""The documentation: every Python block runs, and the site builds without a warning. Its commands: test_docs_commands.py."""

import contextlib
import doctest
import re
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import transformers_simul
from families import make_family, stock_of
from helpers import make_model, make_processor
from serving import in_thread
from speech_helpers import stand_in_for_espeak
from transformers_simul.corpora import Pair
from transformers_simul.evaluation import Instance, write_instances
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.publishing.custom_generate import save_custom_generate
from transformers_simul.speech.synthesis import synthesise

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
# Where a reader's server listens.
SERVED = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Tiny random models stand in for the names that readers put there.
NAMES = (
    "models/simul-falcon-en-de",
    "tiiuae/falcon-rw-1b",
    "my-team/simul-en-de",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "output/experiment/en-de/models/simulmask",
)


def blocks(page, language):
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for kind, body in BLOCK.findall(text) if kind == language]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """What a reader has at hand: names from earlier on the page, files, models."""
    monkeypatch.chdir(tmp_path)
    processor = make_processor()
    model = make_model(processor, seed=3)
    model.generation_config.wait_k = 2
    tokenizer = processor.tokenizer
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    for name in NAMES:
        # The names of other makers are stock models.
        this = make_family("Llama", processor) if "SmolLM2" in name else model
        (this if name.startswith(("models", "my-team", "output")) else stock_of(this)).save_pretrained(name)
        processor.save_pretrained(name)
    save_custom_generate("my-team/simul-decoding")
    Path("train.jsonl").write_text('{"source": "a dog", "target": "ein Hund"}\n' * 4)
    sources = references = ["a dog runs", "two children watch him"]
    log = translate_corpus(model, processor, sources, references, transformers_simul.WaitKPolicy(1), max_new_tokens=5)
    assert isinstance(log[0], Instance)
    for path in (
        "instances.log",
        "output/train/logs/k=3/instances.log",
        *(f"output/experiment/en-de/logs/SM-norec-mod/k={k}/instances.log" for k in (1, 3, 5, 7)),
    ):
        write_instances(path, log)
    names = {name: getattr(transformers_simul, name) for name in transformers_simul.__all__}
    return names | {
        "model": model, "processor": processor, "tokenizer": tokenizer, "sources": sources, "references": references,
        "threading": threading, "torch": torch,
    }  # fmt: skip


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page, reader, monkeypatch):
    stand_in_for_espeak(Path(), monkeypatch)
    synthesise([Pair("a dog runs", "ein Hund rennt")], "data/speech")
    with contextlib.ExitStack() as stack:
        for number, block in enumerate(blocks(page, "python"), start=1):
            # Training at a reader's length would take hours.
            block = block.replace('"output", remove', '"output", max_steps=1, report_to="none", use_cpu=True, remove')
            block = block.replace(", bf16=True", "")
            if SERVED in block:
                served = stack.enter_context(in_thread({"demo": (reader["model"], reader["processor"])}))
                block = block.replace(SERVED, served.url)
            if ">>>" in block:
                test = doctest.DocTestParser().get_doctest(block, reader, f"{page} block {number}", page, 0)
                assert not doctest.DocTestRunner().run(test, clear_globs=False).failed
            else:
                exec(compile(block, f"{page}, block {number}", "exec"), reader)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    reference = (tmp_path / "api" / "index.html").read_text()
    assert "[<code>" not in reference
    assert "`" not in reference
    # A page's own code, not the directive that includes it.
    walkthrough = (tmp_path / "walkthrough" / "index.html").read_text()
    assert "AdamW" in walkthrough
    assert "8&lt;" not in walkthrough
    anchors = {anchor.rpartition(".")[2] for anchor in re.findall(r'id="([\w.]+)"', reference)}
    # A family's three classes differ from the stock ones in what docs/positions.md says.
    families = re.compile(r"Simul(?!Speech|Generation)\w+(Config|Model|ForCausalLM)")
    assert [name for name in transformers_simul.__all__ if name not in anchors and not families.fullmatch(name)] == []


@pytest.mark.slow
def test_the_walkthrough_draws_its_pictures(tmp_path):
    program = [sys.executable, str(ROOT / "docs" / "walkthrough.py")]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in (tmp_path / "output" / "walkthrough").iterdir()} == {
        "path.png",
        "masks.png",
        "decoded.png",
        "curve.png",
    }


def test_the_drawings_are_drawn(tmp_path, monkeypatch):
    drawings = runpy.run_path(str(ROOT / "docs" / "tools" / "drawings.py"))
    monkeypatch.setitem(drawings["main"].__globals__, "IMAGES", tmp_path)
    drawings["main"]()
    assert {path.name for path in tmp_path.iterdir()} == {"ranks.png", "cache.png", "mask.png"}


def test_every_source_file_names_its_licence():
    tracked = subprocess.run(["git", "ls-files", "*.py", "*.sh"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = tracked.stdout.split()
    assert len(files) > 100
    for name in files:
        assert "SPDX-License-Identifier: Apache-2.0" in (ROOT / name).read_text(encoding="utf-8")[:200], name
