# SPDX-License-Identifier: Apache-2.0
"""The models in models/: whole, small, the package's own code, and as exact and as useful as the page about them says."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from test_generation import assert_streamed_equals_trained
from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy, models
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.mask_picture import draw_mask
from transformers_simul.evaluation.quality import quality
from transformers_simul.text_files import read_lines

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "models" / "simul-falcon-en-de"
OFFLINE = ROOT / "models" / "falcon-en-de-offline"
PACKAGE = Path(models.__file__).parent
EVERYDAY = [read_lines(ROOT / "examples" / f"everyday.{code}") for code in ("en", "de")]


@pytest.fixture(scope="module")
def shipped():
    return AutoSimulModel.from_pretrained(str(SHIPPED)).eval(), SimulProcessor.from_pretrained(str(SHIPPED))


def siblings(name):
    """The modules that one file of models/ imports, and theirs."""
    found = {name}
    waiting = [name]
    while waiting:
        text = (PACKAGE / waiting.pop()).read_text(encoding="utf-8")
        new = {f"{each}.py" for each in re.findall(r"^\s*from \.(\w+) import", text, re.MULTILINE)} - found
        found |= new
        waiting += new
    return found


def test_its_code_is_the_packages():
    classes = json.loads((SHIPPED / "config.json").read_text())["auto_map"].values()
    classes = [*classes, *json.loads((SHIPPED / "processor_config.json").read_text())["auto_map"].values()]
    needed = set().union(*(siblings(f"{name.partition('.')[0]}.py") for name in classes))
    assert {path.name for path in SHIPPED.glob("*.py")} == needed
    for name in needed:
        assert (SHIPPED / name).read_bytes() == (PACKAGE / name).read_bytes(), f"models/ has another {name}"


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in (ROOT / "models").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40 * 2**20
    assert {path.suffix for path in files} <= {".json", ".md", ".png", ".py", ".safetensors"}


@pytest.mark.parametrize("folder", [SHIPPED, OFFLINE])
def test_stored_in_bfloat16_and_computed_with_in_float32(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    assert {each.dtype for each in AutoSimulModel.from_pretrained(str(folder)).parameters()} == {torch.float32}


@pytest.mark.parametrize("k", [1, 3, 7])
def test_streamed_logits_are_those_of_one_masked_forward(shipped, tmp_path, k):
    """In float64: what is left is the rounding of logits, which are given in float32."""
    pytest.importorskip("matplotlib")
    exact = AutoSimulModel.from_pretrained(str(SHIPPED), attn_implementation="eager", dtype=torch.float64).eval()
    for source, target in [*zip(*EVERYDAY, strict=True)][:4]:
        picture = draw_mask(tmp_path / "mask.png", exact, shipped[1], source, target, WaitKPolicy(k))
        assert picture.logit_difference < 2e-6
        same, cells = picture.agreement
        assert same == cells


def test_what_it_writes_itself_in_float32_has_these_logits_too(shipped):
    model, processor = shipped
    sources = EVERYDAY[0][:8]
    policies = [WaitKPolicy(1 + index % 4) for index in range(len(sources))]
    output = model.generate(
        **processor(source=sources), policy=policies, return_dict_in_generate=True, output_logits=True
    )
    # Its logits are some ten times those of the random models of the other tests, and so is their rounding.
    largest = max(logits.abs().max().item() for logits in output.logits)
    assert_streamed_equals_trained(model, processor, sources, policies, output, tolerance=1e-6 * largest)


def test_it_translates(shipped):
    """Far below what the page says, far above what a broken model would do."""
    sources, references = (side[:40] for side in EVERYDAY)
    for k, least in ((3, 20), (7, 20)):
        log = translate_corpus(*shipped, sources, references, WaitKPolicy(k))
        assert quality([each.prediction for each in log], references, resamples=10)[0].score > least


@pytest.mark.slow
def test_it_loads_from_the_clone_without_the_package(tmp_path):
    program = """
import sys
sys.modules["transformers_simul"] = None
from transformers import AutoModelForCausalLM, AutoProcessor
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
output = model.generate(**processor(source=sys.argv[2]), return_dict_in_generate=True)
print(*processor.words(output.words[0]))
"""
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    source = EVERYDAY[0][0]
    done = subprocess.run(
        [sys.executable, "-c", program, str(SHIPPED), source],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, processor = AutoSimulModel.from_pretrained(str(SHIPPED)).eval(), SimulProcessor.from_pretrained(str(SHIPPED))
    output = model.generate(**processor(source=source), policy=WaitKPolicy(3), return_dict_in_generate=True)
    assert done.stdout.splitlines()[-1] == " ".join(processor.words(output.words[0]))


@pytest.mark.slow
def test_the_demo_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "argv", ["demo.py", "--output", str(tmp_path), "--max-sentences", "8"])
    runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="demo")["main"]()
    printed = capsys.readouterr().out
    assert printed.count("= ") >= 3
    table = (tmp_path / "results.md").read_text()
    assert table.count("| k = ") == 4
    assert "| full source |" in table
    assert table in printed
    assert (tmp_path / "quality_latency.png").stat().st_size > 1000


def test_everyday_sentences_are_pairs():
    sources, references = EVERYDAY
    assert len(sources) == len(references) == len({*sources}) == 120
    assert all(map(str.strip, [*sources, *references]))
