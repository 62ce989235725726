# SPDX-License-Identifier: Apache-2.0
"""The example program, end to end on tiny data, as a user runs it."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import GPT2Config, LlamaConfig

import run_simul_translation
from helpers import make_tokenizer, random_sentence
from transformers_simul import SimulFalconForCausalLM, SimulProcessor
from transformers_simul.evaluation import read_instances

PROGRAM = Path(__file__).parents[1] / "examples" / "run_simul_translation.py"
SMALL = (
    "--vocab_size 300 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --per_device_train_batch_size 4 "
    "--learning_rate 1e-3 --report_to none --wait_k 1 2 full --eval_wait_k 1 2 --source_lang en --target_lang de "
    "--stream_sentences 1 --use_cpu --disable_tqdm 1"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(0)
    for name, count in (("train", 40), ("validation", 6), ("test", 6)):
        with open(folder / f"{name}.jsonl", "w") as file:
            for _ in range(count):
                sentence = random_sentence(draw, 2, 7)
                file.write(json.dumps({"en": sentence, "de": sentence.upper()}) + "\n")
    return folder


def command(data, output, *flags):
    files = [
        flag for name in ("train", "validation", "test") for flag in (f"--{name}_file", str(data / f"{name}.jsonl"))
    ]
    return [sys.executable, str(PROGRAM), *files, "--output_dir", str(output), *SMALL, *flags]


def run(data, output, *flags, **kwargs):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command(data, output, *flags),
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
        **kwargs,
    )


@pytest.mark.slow
def test_trains_translates_reports_streams_and_reuses(data, tmp_path):
    flags = [
        "--do_train",
        "--do_eval",
        "--do_predict",
        "--max_steps",
        "4",
        "--eval_strategy",
        "steps",
        "--eval_steps",
        "2",
    ]
    done = run(data, tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    for piece in ("| k = 1 |", "| full source |", "BLEU at k = 2 minus k = 1", "nrefs:1", "WaitKPolicy(k=2) writes"):
        assert piece in done.stdout
    assert "| k = 1 |" in (tmp_path / "results.md").read_text()
    assert json.loads((tmp_path / "eval_results.json").read_text())["eval_loss"] > 0
    assert (tmp_path / "quality_latency.png").stat().st_size > 5000
    log = read_instances(tmp_path / "logs" / "k=1" / "instances.log")
    assert [each.index for each in log] == list(range(6))
    assert all(len(each.delays) == each.prediction_length == len(each.elapsed) for each in log)
    assert SimulProcessor.from_pretrained(tmp_path).target_lang == "de"
    assert SimulFalconForCausalLM.from_pretrained(tmp_path).config.vocab_size <= 300
    assert not list(tmp_path.glob("*.bin"))

    weights = (tmp_path / "model.safetensors").stat().st_mtime_ns
    again = run(data, tmp_path, *flags)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == weights
    assert "Training" not in again.stdout
    assert (tmp_path / "results.md").read_text().strip() in again.stdout
    # A trained folder is a checkpoint like any other.
    tuned = run(data, tmp_path / "tuned", "--do_train", "--max_steps", "1", "--model_name_or_path", str(tmp_path))
    assert tuned.returncode == 0, tuned.stderr


@pytest.mark.slow
def test_interrupted_it_resumes_and_passes_over_a_torn_checkpoint(data, tmp_path):
    flags = ["--do_train", "--max_steps", "30", "--save_steps", "5", "--stream_sentences", "0"]
    whole = run(data, tmp_path / "whole", *flags)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(command(data, tmp_path / "cut", *flags), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)  # fmt: skip
    deadline = time.monotonic() + 300
    while not (tmp_path / "cut" / "checkpoint-10" / "trainer_state.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    if process.returncode:  # a fast machine may have finished
        assert process.returncode == 130, output
        assert "the same command resumes" in output
    torn = tmp_path / "cut" / "checkpoint-99"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"best')
    resumed = run(data, tmp_path / "cut", *flags)
    assert resumed.returncode == 0, resumed.stderr
    if process.returncode:
        assert "Resuming from" in resumed.stdout
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut")]
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_a_full_disk_loses_nothing(data, tmp_path):
    flags = ["--do_train", "--max_steps", "6", "--save_steps", "2", "--stream_sentences", "0"]

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    full = run(data, tmp_path, *flags, preexec_fn=small_files)
    assert full.returncode == 1
    assert "error" in full.stderr
    assert not (tmp_path / "training.json").exists()
    done = run(data, tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "training.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "{data}/none.jsonl"], "does not exist"),
        (["--source_lang", "xx"], "must have column 'xx'"),
        (["--train_file", "{data}/train.jsonl", "{data}/test.jsonl"], "as many lines as each other"),
        (["--wait_k", "0"], "k must be a whole number of at least 1"),
        (["--template", "{source}"], "template must read"),
        (["--output_dir", "{data}/train.jsonl"], "must be a folder that can be written"),
        (["--max_length", "5"], "leaves no pair"),
        (["--model_name_or_path", "{gpt2}"], "model_type must be one of .*'llama'.*, got 'gpt2'"),
        (["--model_name_or_path", "{llama}", "--positions", "modified"], "positions must be one of \\('own_frame'"),
        (["--use_chat_template"], "tokenizer must have a chat_template"),
        (["--use_lora"], "use_lora needs model_name_or_path"),
        (["--positions", "own_frame"], "positions must be one of \\('modified'"),
    ],
)
def test_bad_input_fails_before_training(data, tmp_path, monkeypatch, flags, message):
    for name, config in (("llama", LlamaConfig()), ("gpt2", GPT2Config())):
        config.save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
        flags = [flag.replace("{data}", str(data)).replace(f"{{{name}}}", str(tmp_path / name)) for flag in flags]
    flags = ["--do_train", "--max_steps", "2", *flags]
    monkeypatch.setattr("sys.argv", command(data, tmp_path / "out", *flags)[1:])
    with pytest.raises(ValueError, match=message):
        run_simul_translation.main()
    assert not (tmp_path / "out" / "model.safetensors").exists()
