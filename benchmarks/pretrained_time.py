# SPDX-License-Identifier: Apache-2.0
"""Time of the trained systems of benchmarks/pretrained.sh, sentence by sentence in turns: one stream, source known.

Usage: benchmarks/pretrained_time.py EXPERIMENT_FOLDER SOURCE_FILE [SENTENCES [K]]   (folder of a language pair)
"""

import statistics
import sys
import time
from pathlib import Path

import common
from transformers_simul import AutoSimulModel, OfflinePolicy, SimulProcessor, WaitKPolicy
from transformers_simul.research.baselines import ROTARY_SYSTEMS, SYSTEMS
from transformers_simul.text_files import read_lines
from transformers_simul.training import run_program


def main() -> None:
    folder, file, *numbers = sys.argv[1:]
    sentences, k = (int(number) for number in [*numbers, *("20", "3")[len(numbers) :]])
    models = {}
    for training in sorted((Path(folder) / "models").iterdir()):
        models[training.name] = AutoSimulModel.from_pretrained(str(training)).eval()
        processor = SimulProcessor.from_pretrained(training)
    seconds: dict[str, list[float]] = {}
    tokens: dict[str, int] = {}
    # The first sentence warms up.
    for number, source in enumerate(read_lines(Path(file))[: sentences + 1]):
        for system in (*SYSTEMS, *ROTARY_SYSTEMS):
            if system.training.name not in models:
                continue
            started = time.perf_counter()
            output = models[system.training.name].generate(
                **processor(source=source),
                policy=OfflinePolicy() if system.is_offline else WaitKPolicy(k),
                row_decoder=system.row_decoder,
                return_dict_in_generate=True,
                max_new_tokens=100,
            )
            if number:
                seconds.setdefault(system.name, []).append(time.perf_counter() - started)
                tokens[system.name] = tokens.get(system.name, 0) + sum(len(word) for word in output.words[0]) + 1
    print(f"| system | ms per sentence at k = {k}, median | ms per written token |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {1000 * statistics.median(times):.0f} | {1000 * sum(times) / tokens[name]:.0f} |")
    print(f"\n{sentences} sentences; {common.machine()}")


if __name__ == "__main__":
    run_program(main)
