# SPDX-License-Identifier: Apache-2.0
"""A saved folder is enough: with torch and transformers alone it loads as remote code and streams the same ids."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoProcessor, Trainer, TrainingArguments

from families import make_family
from helpers import make_model, make_processor
from transformers_simul import AutoSimulModel, SimulMaskDataCollator, SimulProcessor, WaitKPolicy
from transformers_simul.cli import main
from transformers_simul.cli.loading import load
from transformers_simul.evaluation.decode import weights_key
from transformers_simul.publishing.model_card import write_model_card
from transformers_simul.training import DataArguments, ModelArguments
from transformers_simul.training import make_processor as make_trained_processor

PROGRAM = """
import json, sys
sys.modules["transformers_simul"] = None
try:
    import transformers_simul
except ImportError:
    pass
else:
    raise SystemExit("the package must not be there")
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoProcessor

folder = sys.argv[1]
try:
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("it must refuse without trust_remote_code")


model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
output = model.generate(
    **processor(source="a dog runs over the meadow"), wait_k=2, max_new_tokens=12, max_word_tokens=3,
    suppress_tokens=[0], return_dict_in_generate=True,
)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(sys.argv[2])
processor.save_pretrained(sys.argv[2])
print(json.dumps({"words": output.words, "delays": output.delays, "config": type(config).__name__,
                  "model": type(model).__name__, "base": type(base).__name__}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Falcon", "Gemma3", "Mpt"])
def test_saved_saved_again_and_loaded_without_the_package(tmp_path, family):
    processor = make_processor()
    model = make_model(processor) if family == "Falcon" else make_family(family, processor)
    model.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    expected = model.generate(
        **processor(source="a dog runs over the meadow"), policy=WaitKPolicy(2), max_new_tokens=12, max_word_tokens=3,
        suppress_tokens=[0], return_dict_in_generate=True,
    )  # fmt: skip
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    for folder, again in (("first", "second"), ("second", "third")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / folder), str(tmp_path / again)],
            capture_output=True, text=True, env=environment, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["words"] == expected.words
        assert found["delays"] == expected.delays
        assert (found["config"], found["model"]) == (f"Simul{family}Config", f"Simul{family}ForCausalLM")
        assert found["base"] == f"Simul{family}Model"
    # The package itself reads every generation of it.
    assert AutoSimulModel.from_pretrained(str(tmp_path / "third")).config.vocab_size == model.config.vocab_size
    assert SimulProcessor.from_pretrained(tmp_path / "third").template == processor.template


def test_the_stock_trainer_saves_a_whole_folder(tmp_path):
    processor = make_processor()
    args = TrainingArguments(
        str(tmp_path), remove_unused_columns=False, max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True
    )
    collator = SimulMaskDataCollator(processor, WaitKPolicy(1))
    pairs = [{"source": "a dog", "target": "two children"}] * 4
    trainer = Trainer(
        make_model(processor), args, data_collator=collator, train_dataset=pairs, processing_class=processor
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "final", trust_remote_code=True).eval()
    again = AutoProcessor.from_pretrained(tmp_path / "final", trust_remote_code=True)
    options = {"wait_k": 1, "max_new_tokens": 8, "return_dict_in_generate": True}
    expected = trainer.model.eval().generate(**processor(source="a dog runs"), **options)
    assert model.generate(**again(source="a dog runs"), **options).words == expected.words
    assert write_model_card(tmp_path / "final").is_file()


@pytest.mark.parametrize("place", ["elsewhere", "team/base", "."])
def test_a_card_names_a_base_of_the_hub_and_no_folder(tmp_path, monkeypatch, place):
    """A folder of the machine that trained is none on the Hub, from wherever the card is written."""
    processor = make_processor()
    for folder in (tmp_path / "team" / "base", tmp_path / "final"):
        make_model(processor).save_pretrained(folder)
        processor.save_pretrained(folder)

    def card(weights):
        record = {"model": {"model_name_or_path": "team/base", "weights": weights}}
        (tmp_path / "final" / "training.json").write_text(json.dumps(record))
        return yaml.safe_load(write_model_card(tmp_path / "final").read_text().split("---")[1])

    monkeypatch.chdir(tmp_path)
    of_folder = weights_key("team/base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / place)
    assert "base_model" not in card(of_folder)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert card(weights_key("team/base"))["base_model"] == "team/base"


EVIL = """
from pathlib import Path

from transformers import PreTrainedTokenizerFast

Path({marker!r}).write_text("run")


class EvilTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A saved folder whose tokenizer brings code of its own, and a user whose first line of text is `y`."""
    folder = tmp_path / "hostile"
    processor = make_processor()
    make_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "marker")))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": [None, "evil.EvilTokenizer"]}}
    path.write_text(json.dumps(settings))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return folder


def load_for_training(folder):
    make_trained_processor(ModelArguments(model_name_or_path=folder), DataArguments(), [])


@pytest.mark.parametrize(
    ("load", "remedy"),
    [
        (lambda folder: SimulProcessor.from_pretrained(folder), "trust_remote_code"),
        (lambda folder: SimulProcessor.from_pretrained(folder, trust_remote_code=None), "trust_remote_code"),
        (lambda folder: load(folder), "code for its tokenizer, which runs only with --trust-remote-code"),
        (load_for_training, "tokenizer without code of its own, which training never runs"),
    ],
    ids=["processor", "processor_unasked", "command", "training"],
)
def test_no_code_of_a_folder_runs_unless_the_user_said_so(hostile, tmp_path, load, remedy):
    with pytest.raises(ValueError, match=remedy):
        load(str(hostile))
    assert not (tmp_path / "marker").exists()


def test_commands_run_no_code_of_a_folder(hostile, tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text("y\na dog\n")
    for command in (["translate"], ["translate", "{text}"], ["demo"], ["mask", "--source", "a", "--target", "a"]):
        name, *others = (each.format(text=tmp_path / "text") for each in command)
        with open(tmp_path / "text") as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert main([name, str(hostile), *others]) == 1, command
        assert "trust" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()
    # The user's own word is enough.
    SimulProcessor.from_pretrained(hostile, trust_remote_code=True)
    assert (tmp_path / "marker").read_text() == "run"


def test_a_folder_without_its_processor_is_refused(tmp_path):
    """The default template and languages would translate into nonsense."""
    processor = make_processor()
    processor.save_pretrained(tmp_path)
    assert SimulProcessor.from_pretrained(tmp_path).target_lang == "de"
    settings = (tmp_path / "processor_config.json").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"must hold a processor_config\.json with the template"):
        SimulProcessor.from_pretrained(tmp_path)
    settings.rename(tmp_path / "processor_config.json")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"must hold a tokenizer, but it has no tokenizer\.json"):
        SimulProcessor.from_pretrained(tmp_path)
