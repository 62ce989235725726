# SPDX-License-Identifier: Apache-2.0
"""What `import transformers_simul` adds to `import transformers`, in fresh processes; forwards to the first token."""

import statistics
import subprocess
import sys

import common
from transformers_simul import WaitKPolicy

PROGRAM = """
import time
import transformers
started = time.perf_counter()
import transformers_simul
print(1000 * (time.perf_counter() - started))
"""


def measure(results: dict[str, float], raw: dict[str, list[float]]) -> None:
    command = [sys.executable, "-c", PROGRAM]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)]
    results["import_ms"] = statistics.median(times)
    raw["import ms"] = times

    output = common.model().generate(
        **common.processor()(source="a dog runs"), policy=WaitKPolicy(1), max_new_tokens=1, return_dict_in_generate=True
    )
    results["forwards_to_first_token"] = float(output.forwards)


if __name__ == "__main__":
    figures: dict[str, float] = {}
    measure(figures, {})
    common.report(figures, {})
