# SPDX-License-Identifier: Apache-2.0
"""Start-up: processor time until `transformers-simul translate` shows the first word of a piped sentence, against
importing torch and transformers and loading the same weights alone. Fresh processes, in turns."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import common

LOAD = "import sys, transformers; transformers.FalconForCausalLM.from_pretrained(sys.argv[1])"


def measure(results: dict[str, float], raw: dict[str, list[float]], rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as name:
        ours, stock = Path(name) / "ours", Path(name) / "stock"
        common.model(320, 6).save_pretrained(ours)
        common.processor().save_pretrained(ours)
        common.stock(common.model(320, 6)).save_pretrained(stock)
        translate = [sys.executable, "-m", "transformers_simul.cli", "translate", str(ours)]
        commands = {"first word": [*translate, "--show-delays"], "load": [sys.executable, "-c", LOAD, str(stock)]}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(rounds + 1):
            for name, command in commands.items():
                spent = processor_seconds(command)
                if turn:
                    seconds[name].append(spent)
    results["first_word_vs_load"] = statistics.median(seconds["first word"]) / statistics.median(seconds["load"])
    raw |= {f"start-up, {name}": each for name, each in seconds.items()}


def processor_seconds(command: list[str]) -> float:
    """Of a process until its first line or its end."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(b"The device is already configured . ")
        process.stdin.flush()
        line = process.stdout.readline()
        # Not process.kill(), which would reap one that has ended, and its figures.
        os.kill(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if "translate" in command and not line:
        raise RuntimeError(f"{command} ended without a word.")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
