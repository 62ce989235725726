# SPDX-License-Identifier: Apache-2.0
"""The comparison, end to end on tiny data: what it writes, that it resumes, and the paper's preset."""

import csv
import itertools
import json
import random

import pytest
import torch
from transformers import TrainingArguments

import run_experiment
from helpers import make_config, make_model, make_processor, random_sentence
from transformers_simul import SimulFalconForCausalLM, WaitKPolicy
from transformers_simul.corpora import Pair
from transformers_simul.evaluation import read_instances
from transformers_simul.research.baselines import PrefixDataCollator
from transformers_simul.research.experiment import PAPER, ExperimentArguments
from transformers_simul.research.experiment import report as experiment_report
from transformers_simul.research.experiment import run as experiment_run
from transformers_simul.training import data as finetuning_data
from transformers_simul.training import encode, fine_tune

SMALL = (
    "--vocab_size 300 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --per_device_train_batch_size 4 "
    "--learning_rate 1e-3 --base_steps 2 --report_to none --flops_sentences 2 --use_cpu --disable_tqdm 1"
).split()


def write_corpus(folder):
    draw = random.Random(0)
    for name, count in (("train", 30), ("test", 5)):
        with open(folder / f"{name}.jsonl", "w") as file:
            for _ in range(count):
                sentence = random_sentence(draw, 2, 7)
                file.write(json.dumps({"en": sentence, "de": sentence.upper(), "fr": sentence}) + "\n")


def run(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["run_experiment.py", *map(str, flags)])
    run_experiment.main()


@pytest.mark.slow
def test_it_writes_one_folder_and_runs_nothing_twice(tmp_path, monkeypatch, capsys):
    write_corpus(tmp_path)
    flags = ["--output_dir", tmp_path / "out", "--target_langs", "de", "fr", "--max_steps", 2, "--eval_wait_k", 1, 3]
    flags += ["--train_file", tmp_path / "train.jsonl", "--test_file", tmp_path / "test.jsonl", *SMALL]
    run(monkeypatch, *flags)
    for pair in ("en-de", "en-fr"):
        folder = tmp_path / "out" / pair
        written = {path.name for path in folder.iterdir()}
        assert written >= {"results.md", "results.csv", "bleu.png", "chrf++.png", "flops.png", "manifest.json", "logs"}
        with (folder / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 8 * 2 + 1
        assert all("policy:" in row["signature"] and "dtype:float32" in row["signature"] for row in rows)
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["pairs"] == {"train": 30, "validation": 0, "test": 5}
        assert set(manifest["trainings"]) == {
            "base",
            "causal",
            "prefix",
            "converse",
            "simulmask-plain-alibi",
            "simulmask",
            "simulmask-peek",
        }
        assert manifest["trainings"]["simulmask-peek"]["peek_rows"] == 1.0
    results = (tmp_path / "out" / "en-de" / "results.md").read_text()
    assert "| SM-norec-mod - causal-rec |" in results

    def never(*args, **kwargs):
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(experiment_run, "fine_tune", never)
    monkeypatch.setattr(experiment_run, "translate_corpus", never)
    monkeypatch.setattr(experiment_run, "sentence_flops", never)
    run(monkeypatch, *flags)
    assert (tmp_path / "out" / "en-de" / "results.md").read_text() == results
    # Another test set: the models stay, the logs are made anew.
    with pytest.raises(AssertionError, match="run again"):
        run(monkeypatch, *flags, "--max_predict_samples", 3)
    # Other settings are another experiment, not a reason to go on from this one's checkpoints.
    with pytest.raises(
        ValueError, match=r"models/causal' holds another training: learning_rate was 0\.001 and is 0\.01"
    ):
        run(monkeypatch, *flags, "--learning_rate", 1e-2)


@pytest.mark.slow
def test_policies_by_name_beside_the_ks(tmp_path, monkeypatch, capsys):
    write_corpus(tmp_path)
    drawn = []
    monkeypatch.setattr(experiment_report, "plot_curves", lambda path, curves, *args: drawn.append(set(curves)))
    flags = ["--output_dir", tmp_path / "out", "--max_steps", 2, "--eval_wait_k", 1, 3, "--systems", "causal-offline"]
    flags += ["causal-rec", "SM-norec-mod", "--eval_policy", "learned:0.3,max=4", "hold-2", *SMALL]
    run(monkeypatch, *flags, "--train_file", tmp_path / "train.jsonl", "--test_file", tmp_path / "test.jsonl")
    folder = tmp_path / "out" / "en-de"
    with (folder / "results.csv").open() as file:
        rows = [(row["system"], row["policy"]) for row in csv.DictReader(file)]
    names = ["k = 1", "k = 3", "learned:0.3,max=4", "hold-2"]
    expected = [(system, name) for system in ("causal-rec", "SM-norec-mod") for name in names]
    assert rows == [("causal-offline", "full source"), *expected]
    results = (folder / "results.md").read_text()
    assert f"| | {' | '.join(names)} |" in results
    assert "policy:LearnedReadPolicy(threshold=0.3, least_lag=1, greatest_lag=4)" in results
    # Every system's own curve of each kind.
    of_ours = {"SM-norec-mod", "SM-norec-mod, learned", "SM-norec-mod, hold"}
    assert drawn[0] >= of_ours
    assert len(drawn[0]) == 7
    log = read_instances(folder / "logs" / "SM-norec-mod" / "learned-0.3,max=4" / "instances.log")
    assert len(log) == 5


@pytest.mark.slow
def test_systems_of_one_model_that_end_in_different_ways(tmp_path, monkeypatch):
    write_corpus(tmp_path)
    used = []

    def spy(name):
        does = getattr(experiment_run, name)

        def counted(model, *args, **kwargs):
            used.append((name, model.generation_config.eos_threshold))
            return does(model, *args, **kwargs)

        monkeypatch.setattr(experiment_run, name, counted)

    spy("translate_corpus")
    spy("sentence_flops")
    flags = ["--output_dir", tmp_path / "out", "--max_steps", 2, "--eval_wait_k", 3, "--systems", "prefix-norec-half"]
    flags += ["prefix-norec", *SMALL, "--train_file", tmp_path / "train.jsonl", "--test_file", tmp_path / "test.jsonl"]
    run(monkeypatch, *flags)
    assert used == [(name, value) for name in ("translate_corpus", "sentence_flops") for value in (None, 0.5)]
    logs = tmp_path / "out" / "en-de" / "logs"
    settings, keys = (
        [(logs / name / "k=3" / file).read_text() for name in ("prefix-norec", "prefix-norec-half")]
        for file in ("settings.json", "instances.key")
    )
    assert keys[0] != keys[1]
    assert [json.loads(text).get("eos_threshold") for text in settings] == [None, "0.5"]


@pytest.mark.slow
def test_the_papers_preset_down_to_the_download(tmp_path, monkeypatch):
    """Only the two names of the hub are stood in for: a tiny checkpoint, and rows in IWSLT's shape."""
    processor = make_processor()
    checkpoint = tmp_path / "falcon"
    SimulFalconForCausalLM(make_config(processor)).save_pretrained(checkpoint)
    processor.tokenizer.save_pretrained(checkpoint)
    draw, asked = random.Random(0), []

    def load_dataset(name, config, revision=None):
        asked.append((name, config, revision))
        target = config.split("-")[-1]
        texts = [random_sentence(draw, 3, 7) for _ in range(24)]
        return {split: [{"translation": {"en": text, target: text}} for text in texts] for split in ("train", "test")}

    monkeypatch.setattr(finetuning_data, "load_dataset", load_dataset)
    run(
        monkeypatch, "--paper", "--output_dir", tmp_path / "out", "--model_name_or_path", checkpoint, "--use_cpu",
        "--max_steps", 2, "--systems", "causal-rec", "SM-norec-mod", "--eval_wait_k", 1, "--flops_k", 1,
        "--flops_sentences", 2, "--max_predict_samples", 2, "--disable_tqdm", 1, "--target_langs", "fr", "nl",
        "--per_device_train_batch_size", 2,
    )  # fmt: skip
    assert [config for _, config, _ in asked] == ["iwslt2017-en-fr", "iwslt2017-en-nl"]
    assert {name for name, _, _ in asked} == {"IWSLT/iwslt2017"}
    manifest = json.loads((tmp_path / "out" / "en-nl" / "manifest.json").read_text())
    training = manifest["trainings"]["simulmask-k5"]
    assert training["policy"] == "WaitKPolicy(k=5)"  # trained at k + 4
    assert training["training"]["lr_scheduler_type"] == "inverse_sqrt"
    assert training["training"]["learning_rate"] == 2e-4
    assert training["training"]["bf16"] is True
    log = read_instances(tmp_path / "out" / "en-fr" / "logs" / "SM-norec-mod" / "k=1" / "instances.log")
    assert len(log) == 2
    with (tmp_path / "out" / "en-fr" / "results.csv").open() as file:
        assert {"dtype:bfloat16" in row["signature"] for row in csv.DictReader(file)} == {True}


def test_a_cut_batch_has_the_same_gradient(tmp_path):
    """What the experiment does with prefix rows: parts of a batch, one step; against the whole batch."""
    processor = make_processor()
    draw, weights = random.Random(0), []
    pairs = [Pair(*[random_sentence(draw, 2, 6)] * 2) for _ in range(8)]
    for parts in (1, 4):
        args = TrainingArguments(
            str(tmp_path / str(parts)), max_steps=1, per_device_train_batch_size=8 // parts, use_cpu=True,
            gradient_accumulation_steps=parts, remove_unused_columns=False, report_to="none", learning_rate=1e-2,
            optim="sgd", lr_scheduler_type="constant", disable_tqdm=True,
        )  # fmt: skip
        model = make_model(processor)
        collator = PrefixDataCollator(processor, WaitKPolicy(1))
        fine_tune(model, processor, collator, encode(processor, pairs), None, args, {})
        weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    start = dict(make_model(processor).named_parameters())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=1e-6, rtol=0)
    assert any((weight - start[name]).abs().max() > 1e-4 for name, weight in weights[0].items())


def test_the_preset_is_the_papers():
    text = " ".join(PAPER)
    for setting in (
        "tiiuae/falcon-rw-1b", "fr nl it ro de", "--training_k +4", "--eval_wait_k 1 3 5 7", "--learning_rate 2e-4",
        "--weight_decay 0.1", "--num_train_epochs 2", "--max_length 512", "--bf16",
    ):  # fmt: skip
        assert setting in text
    flags = dict(itertools.pairwise(PAPER))
    assert int(flags["--per_device_train_batch_size"]) * int(flags["--gradient_accumulation_steps"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"systems": ["SM-rec"]}, "systems must be among"),
        ({"systems": []}, "systems must be among"),
        ({"training_k": ["+4", "1"]}, "one '\\+n' or a list"),
        ({"eval_wait_k": [0]}, "k must be a whole number of at least 1"),
        ({"training_k": ["+four"]}, "'\\+' and a whole number"),
        ({"eval_wait_k": [1, 5]}, "flops_k must be one of eval_wait_k"),
        ({"flops_sentences": 1}, "flops_sentences must be at least 2"),
        ({"eval_policy": ["weit-3"]}, "policy must be one of"),
        ({"eval_policy": ["alignatt-2"]}, "eval_policy must need no alignment heads, .* got 'alignatt-2'"),
        ({"eval_policy": ["hold-2"]}, "must ask for no drafts with system converse-norec, got 'hold-2'"),
        ({"eval_policy": ["learned"], "training_k": ["+4"]}, "needs one model for all k's, so no training_k '\\+4'"),
        ({"training_k": ["0"]}, "k must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExperimentArguments(**arguments)


def test_a_system_that_the_base_cannot_have_is_named(tmp_path, monkeypatch):
    write_corpus(tmp_path)
    flags = [
        "--output_dir",
        tmp_path / "out",
        "--target_langs",
        "de",
        "--max_steps",
        2,
        "--systems",
        "SM-group",
        *SMALL,
    ]
    with pytest.raises(ValueError, match="system SM-group cannot have this base: positions must be one of"):
        run(monkeypatch, *flags, "--train_file", tmp_path / "train.jsonl", "--test_file", tmp_path / "test.jsonl")
    assert not list(tmp_path.rglob("*.safetensors"))
