"""Two processes do what one does: the same losses, the same weights, the same log."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from transformers_simul.evaluation import read_instances

JOB = Path(__file__).parent / "distributed_job.py"


def run(folder, processes, batch, *flags):
    """Losses in order."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), str(JOB), str(folder), str(batch), *flags],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(loss) for loss in re.findall(r"'loss': '?([0-9.]+)", done.stdout)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "out"
    return folder, run(folder, 1, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ['{"fsdp": "full_shard auto_wrap", "fsdp_config": {"version": 2, '
         '"transformer_layer_cls_to_wrap": ["FalconDecoderLayer"]}}'],
    ],
    ids=["DDP", "FSDP2"],
)  # fmt: skip
def test_two_processes_equal_one(alone, tmp_path, flags):
    folder, losses = alone
    both = run(tmp_path / "out", 2, 4, *flags)
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
