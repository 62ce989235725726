# SPDX-License-Identifier: Apache-2.0
"""Several processes do what one does: the same losses, the same weights, the same log, the same words."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformers_simul.evaluation import read_instances

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / "examples" / "accelerate_configs"
LAUNCH = ["-m", "accelerate.commands.launch", "--mixed_precision", "no"]


def start(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def end(processes):
    """What each wrote."""
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        outputs.append(output)
    return outputs


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train(folder, *arguments, use_lora="", machines=1):
    """Losses in order."""
    job = [TESTS / "distributed_job.py", folder]
    if not arguments:
        processes = [start(*job, 8, "{}", use_lora)]
    else:
        network = ["--main_process_ip", "127.0.0.1", "--main_process_port", free_port(), "--num_machines", machines]
        processes = [
            start(*LAUNCH, *arguments, "--num_processes", 2, *network, "--machine_rank", rank, *job, 4, "{}", use_lora)
            for rank in range(machines)
        ]
    # The first machine prints them.
    return [float(loss) for loss in re.findall(r": loss ([0-9.]+)", end(processes)[0])]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same in one process, by whether there are adapters."""
    folder = tmp_path_factory.mktemp("one")
    return {name: (folder / f"out{name}", train(folder / f"out{name}", use_lora=name)) for name in ("", "lora")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "use_lora", "machines"),
    [
        ("ddp", "", 1),
        ("fsdp2", "", 1),
        ("zero3", "", 1),
        ("ddp", "lora", 2),
        ("fsdp2", "lora", 1),
        ("zero3", "lora", 1),
    ],
)
def test_two_processes_equal_one(alone, tmp_path, config, use_lora, machines):
    if config == "zero3":
        pytest.importorskip("deepspeed", reason="run tests/zero3.sh")
    layer = ["--fsdp_transformer_layer_cls_to_wrap", "FalconDecoderLayer"] if config == "fsdp2" else []
    folder, losses = alone[use_lora]
    options = ["--config_file", CONFIGS / f"{config}.yaml", *layer]
    both = train(tmp_path / "out", *options, use_lora=use_lora, machines=machines)
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert both == pytest.approx(losses, abs=2e-3)
    one, two = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "out"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=1e-5), name
    logs = [read_instances(each / "logs" / "k=1" / "instances.log") for each in (folder, tmp_path / "out")]
    shared = [[(each.index, each.source, each.prediction, each.delays) for each in log] for log in logs]
    assert shared[0] == shared[1]
    assert [each.index for each in logs[1]] == list(range(11))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero3"])
def test_generate_with_shares_of_a_model(kind):
    if kind == "zero3":
        pytest.importorskip("deepspeed", reason="run tests/zero3.sh")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    (output,) = end([start(*launcher, TESTS / "synced_job.py", kind)])
    along = dict(re.findall(r"rank (\d) went along (\d+) times", output))
    assert sorted(along) == ["0", "1"]
    assert all(int(times) > 3 for times in along.values())
