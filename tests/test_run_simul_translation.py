# SPDX-License-Identifier: Apache-2.0
"""The example program, end to end on tiny data, as a user runs it."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import GPT2Config, LlamaConfig

import run_simul_translation
from helpers import make_tokenizer, random_sentence
from transformers_simul import SimulFalconForCausalLM, SimulProcessor
from transformers_simul.evaluation import read_instances
from transformers_simul.training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    fine_tuning,
    make_model,
    run_program,
)
from transformers_simul.training.callbacks import Clock

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
    assert re.search(r"step 2 of 4, epoch 0\.20: validation loss \d\.\d{4}\n", done.stdout), done.stdout
    # Nothing but the bars of translated sentences, and what this model of four steps cuts off: no warning of what is not
    # used, such as bitsandbytes.
    lines = [
        line
        for line in re.split(r"[\r\n]+", done.stderr)
        if line and not re.search(r"\d+%\|.*(sentence/s|s/sentence)\b", line)
    ]
    noise = [
        line for line in lines if not re.match(r"\d of 6 translations were cut off at their limit of tokens", line)
    ]
    assert not noise
    assert "gemm_4bit" not in done.stdout
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


def main(monkeypatch, capfd, data, output, *flags):
    """The program in this process: its exit status, and what it wrote."""
    capfd.readouterr()
    monkeypatch.setattr("sys.argv", command(data, output, "--stream_sentences", "0", *flags)[1:])
    status = 0
    try:
        run_program(run_simul_translation.main)
    except SystemExit as end:
        status = end.code
    return status, "".join(capfd.readouterr())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_first_and_the_same_command_goes_on(data, tmp_path, monkeypatch, capfd, number):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    flags = ["--do_train", "--max_steps", "30", "--save_steps", "100"]
    assert main(monkeypatch, capfd, data, tmp_path / "whole", *flags)[0] == 0
    step_end = Clock.on_step_end

    def interrupt(self, args, state, control, **kwargs):
        if state.global_step == 7:
            signal.raise_signal(number)
        step_end(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "on_step_end", interrupt)
        status, output = main(monkeypatch, capfd, data, tmp_path / "cut", *flags)
    assert status == 130
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    (checkpoint,) = (tmp_path / "cut").glob("checkpoint-*")
    assert checkpoint.name in ("checkpoint-7", "checkpoint-8")
    assert f"the same command goes on from {checkpoint}" in output
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torn = tmp_path / "cut" / "checkpoint-99"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"best')
    status, output = main(monkeypatch, capfd, data, tmp_path / "cut", *flags)
    assert status == 0
    assert f"{torn} is passed over: it has no complete.json" in output
    assert f"Resuming from {checkpoint}" in output
    assert "missing keys" not in output
    assert f"Saved: {tmp_path / 'cut'}" in output
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut")]
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


def test_what_dies_after_its_last_step_has_only_to_be_saved(data, tmp_path, monkeypatch, capfd):
    flags = ["--do_train", "--max_steps", "6", "--save_steps", "3", "--lr_scheduler_type", "constant"]
    assert main(monkeypatch, capfd, data, tmp_path / "whole", *flags)[0] == 0

    def fail(*args, **kwargs):
        raise OSError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr("transformers_simul.training.fine_tuning.save_trained", fail)
        assert "the machine is gone" in main(monkeypatch, capfd, data, tmp_path / "cut", *flags)[0]
    status, output = main(monkeypatch, capfd, data, tmp_path / "cut", *flags)
    assert status == 0
    assert "Trained 6 steps" in output
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut")]
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_stops_at_once_and_says_what_is_there(data, tmp_path, monkeypatch, capfd, second):
    def interrupt(self, *args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(second)

    monkeypatch.setattr(Clock, "on_step_end", interrupt)
    status, output = main(monkeypatch, capfd, data, tmp_path, "--do_train", "--max_steps", "30")
    assert status == 130
    assert "before a checkpoint was saved; the same command starts anew" in output


@pytest.mark.parametrize(
    ("writer", "error"),
    [
        ("torch.save", RuntimeError("basic_ios::clear: iostream error")),
        ("transformers.modeling_utils.safe_save_file", SafetensorError("No space left on device")),
    ],
)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(data, tmp_path, monkeypatch, capfd, writer, error):
    flags = ["--do_train", "--max_steps", "4", "--save_steps", "2"]

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(writer, fail)
        status, _ = main(monkeypatch, capfd, data, tmp_path, *flags)
    assert status.startswith("error: ")
    assert str(error) in status
    assert "could not be written" in status
    assert not list(tmp_path.glob("checkpoint-*"))
    assert main(monkeypatch, capfd, data, tmp_path, *flags)[0] == 0


def test_a_time_limit_says_what_was_done_and_a_higher_one_goes_on(data, tmp_path, monkeypatch, capfd):
    flags = ["--do_train", "--do_predict", "--max_steps", "12", "--logging_steps", "1", "--max_train_minutes"]
    status, output = main(monkeypatch, capfd, data, tmp_path, *flags, "0")
    assert status == 0
    sentence = "Trained 1 of 12 steps (8%)"
    # Where it ended, below the table, in the card and in the results.
    assert output.count(sentence) == 2
    for file in ("README.md", "results.md"):
        assert sentence in (tmp_path / file).read_text()
    assert "planned" in output
    done = json.loads((tmp_path / "training.json").read_text())["done"]
    assert (done["steps"], done["planned_steps"], done["time_limit_minutes"]) == (1, 12, 0.0)
    assert "Training" not in main(monkeypatch, capfd, data, tmp_path, *flags, "0")[1]

    status, output = main(monkeypatch, capfd, data, tmp_path, *flags, "100")
    assert status == 0
    assert f"Resuming from {tmp_path / 'checkpoint-1'}" in output
    assert "step 12 of 12" in output
    text = (tmp_path / "README.md").read_text()
    assert "Trained 12 steps" in text
    assert "early" not in text
    assert "| training pairs | 40 |" in text


@pytest.mark.parametrize("name", ["max_train_samples", "max_predict_samples"])
def test_no_pairs_at_all_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        DataArguments(**{name: 0})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A training that was finished, by its flags."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--do_train", "--max_steps", "2", "--stream_sentences", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", command(data, folder, *flags)[1:])
        run_simul_translation.main()
    return folder, flags


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("--wait_k 1 2", "policy"),
        ("--learning_rate 2e-3", "learning_rate"),
        ("--max_train_samples 30", "the training pairs"),
        ("--concatenate 2", "the training pairs"),
        ("--packing", "packing"),
        ("--max_length 100", "max_length"),
        ("--pad_to_multiple_of 8", "pad_to_multiple_of"),
        ("--template {source}={target}", "template"),
        ("--gradient_accumulation_steps 2", "gradient_accumulation_steps"),
        ("--lr_scheduler_type cosine", "lr_scheduler_type"),
        ("--warmup_steps 1", "warmup_steps"),
        ("--max_steps 3", "max_steps"),
        ("--bf16", "bf16"),
        ("--seed 7", "seed"),
        ("--peek_rows 0.5", "peek_rows"),
        ("--dropout 0.1", "dropout"),
        ("--attention_dropout 0.1", "attention_dropout"),
        ("--model_name_or_path {trained}", "model_name_or_path"),
        ("--adam_beta2 0.98", "adam_beta2"),
        ("--train_sampling_strategy group_by_length", "train_sampling_strategy"),
    ],
)
def test_other_settings_never_pass_for_the_training_that_is_there(data, trained, monkeypatch, flags, name):
    folder, before = trained
    more = [flag.replace("{trained}", str(folder)) for flag in flags.split(" ")]
    monkeypatch.setattr("sys.argv", command(data, folder, *before, *more)[1:])
    with pytest.raises(ValueError, match=rf"holds another training: .*{name}.* was .*--overwrite_output_dir"):
        run_simul_translation.main()


def test_harmless_settings_are_no_other_training(data, trained, monkeypatch, capfd):
    folder, before = trained
    flags = "--logging_steps 1 --save_steps 3 --eval_wait_k 1 --predict_batch_size 2 --dataloader_num_workers 1"
    printed = main(monkeypatch, capfd, data, folder, *before, *flags.split())[1]
    assert "Training" not in printed
    assert "holds this training, finished before: nothing is trained." in printed


def test_a_training_that_failed_before_its_first_checkpoint_binds_nobody(data, tmp_path, monkeypatch, capfd):
    flags = ["--do_train", "--max_steps", "1"]
    assert "leaves no pair" in str(main(monkeypatch, capfd, data, tmp_path, *flags, "--max_length", "3")[0])
    assert main(monkeypatch, capfd, data, tmp_path, *flags)[0] == 0


def test_an_unfinished_training_with_other_settings_is_refused_and_can_be_started_anew(
    data, tmp_path, monkeypatch, capfd
):
    flags = ["--do_train", "--max_steps", "6", "--save_steps", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "save_trained", lambda *args: (_ for _ in ()).throw(OSError("no space left")))
        assert "no space left" in str(main(monkeypatch, capfd, data, tmp_path, *flags)[0])
    others = [*flags, "--learning_rate", "2e-3"]
    assert "learning_rate was 0.001 and is 0.002" in str(main(monkeypatch, capfd, data, tmp_path, *others)[0])
    status, output = main(monkeypatch, capfd, data, tmp_path, *others, "--overwrite_output_dir")
    assert status == 0
    assert "Resuming" not in output
    assert json.loads((tmp_path / "training.json").read_text())["training"]["learning_rate"] == 2e-3
    (tmp_path / "training.json").unlink()
    assert "no training.json says of which training" in str(main(monkeypatch, capfd, data, tmp_path, *others)[0])


def test_pairs_that_are_too_long_are_left_out_before_training(data, tmp_path, monkeypatch, capfd):
    """Grouped by length, they would be a batch of their own, with which training ended."""
    with open(tmp_path / "train.jsonl", "w") as file:
        file.write((data / "train.jsonl").read_text())
        for _ in range(10):
            file.write(json.dumps({"en": "a dog " * 60, "de": "two children"}) + "\n")
    flags = ["--do_train", "--max_length", "160", "--train_sampling_strategy", "group_by_length", "--max_steps"]
    files = ["--train_file", str(tmp_path / "train.jsonl")]
    status, printed = main(monkeypatch, capfd, data, tmp_path / "out", *files, *flags, "2")
    assert status == 0, status
    assert "10 pairs for training are longer than max_length=160 and left out\n" in printed
    assert "on 40 pairs" in printed
    assert "10 pairs were too long and left out." in printed
    assert json.loads((tmp_path / "out" / "training.json").read_text())["done"]["pairs_too_long"] == 10


def test_a_training_that_began_with_other_pairs_does_not_go_on(data, tmp_path, monkeypatch, capfd):
    """As one did of a version that left long pairs out batch by batch: the batches still to come would be others."""
    flags = ["--do_train", "--max_length", "100", "--max_steps", "4", "--save_steps", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning, "save_trained", lambda *args: (_ for _ in ()).throw(OSError("no space left")))
        assert "no space left" in str(main(monkeypatch, capfd, data, tmp_path, *flags)[0])
    record = json.loads((tmp_path / "training.json").read_text())
    too_long = record["about"].pop("pairs_too_long")
    whole = (tmp_path / "training.json").read_text()
    (tmp_path / "training.json").write_text(json.dumps(record))
    refusal = f"a training that began without 0 pairs that are too long, but {too_long} are"
    assert refusal in str(main(monkeypatch, capfd, data, tmp_path, *flags)[0])
    (tmp_path / "training.json").write_text(whole)
    status, printed = main(monkeypatch, capfd, data, tmp_path, *flags)
    assert status == 0, status
    assert f"{too_long} pairs were too long and left out." in printed


@pytest.mark.slow
def test_a_full_disk_loses_nothing(data, tmp_path):
    flags = ["--do_train", "--max_steps", "6", "--save_steps", "2", "--stream_sentences", "0"]

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    full = run(data, tmp_path, *flags, preexec_fn=small_files)
    assert full.returncode == 1
    assert "error" in full.stderr
    assert "done" not in json.loads((tmp_path / "training.json").read_text())
    done = run(data, tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "training.json").read_text())["done"]["steps"] == 6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "{data}/none.jsonl"], "does not exist"),
        (["--source_lang", "xx"], "must have column 'xx'"),
        (["--train_file", "{data}/train.jsonl", "{data}/test.jsonl"], "equally many lines"),
        (["--wait_k", "0"], "k must be a whole number of at least 1"),
        (["--template", "{source}"], "template must read"),
        (["--output_dir", "{data}/train.jsonl"], "must be a folder that can be written"),
        (["--max_length", "5"], "leaves no pair"),
        (["--model_name_or_path", "{gpt2}"], "model_type must be one of .*'llama'.*, got 'gpt2'"),
        (["--model_name_or_path", "{llama}", "--positions", "modified"], "positions must be one of \\('own_frame'"),
        (["--use_chat_template"], "tokenizer must have a chat_template"),
        (["--use_lora"], "use_lora needs model_name_or_path"),
        (["--positions", "own_frame"], "positions must be one of \\('modified'"),
        (["--context_sentences", "-1"], "context_sentences must be a whole number of at least 0, got -1"),
        (["--context_sentences", "2", "--run_sentences", "2"], "run_sentences must be above context_sentences, 2, or"),
        (["--context_sentences", "1", "--concatenate", "2"], "concatenate must be 1 with --context_sentences, got 2"),
        (["--context_sentences", "1", "--dataset_name", "wesnoth"], "context_sentences needs pairs in the order of"),
        (["--context_sentences", "1", "--positions", "plain"], "context_sentences needs a model with ALiBi"),
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


def test_sentences_are_trained_with_those_before_them_in_view(data, tmp_path, monkeypatch, capfd):
    flags = ["--do_train", "--do_eval", "--max_steps", "2", "--context_sentences", "2", "--run_sentences", "4"]
    status, printed = main(monkeypatch, capfd, data, tmp_path, *flags)
    assert status == 0, printed
    assert "on 10 runs of sentences" in printed
    assert json.loads((tmp_path / "eval_results.json").read_text())["eval_loss"] > 0
    assert SimulFalconForCausalLM.from_pretrained(tmp_path).generation_config.context_sentences == 2
    assert json.loads((tmp_path / "training.json").read_text())["context_sentences"] == 2


def test_flags_of_attention_and_precision_reach_the_model_and_the_trainer(processor, monkeypatch, tmp_path):
    for flags, dropout in (({}, 0.1), ({"attention_dropout": 0.0}, 0.0)):
        args = ModelArguments(dropout=0.1, attn_implementation="eager", hidden_size=32, num_attention_heads=4, **flags)
        config = make_model(args, processor).config
        assert (config.hidden_dropout, config.attention_dropout) == (0.1, dropout)
        assert config._attn_implementation == "eager"
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True)
    training = ProgramArguments(str(tmp_path), bf16=True, report_to="none")
    assert (training.use_cpu, training.dataloader_pin_memory, training.remove_unused_columns) == (True, False, False)
    monkeypatch.setattr("torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(ValueError, match="bf16 needs a GPU or a CPU that computes in bfloat16"):
        ProgramArguments(str(tmp_path), bf16=True, report_to="none")
