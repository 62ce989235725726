# SPDX-License-Identifier: Apache-2.0
"""The paper's comparison: train every system from the same base, sweep k, write tables, curves, logs and a manifest.

`--paper` is the paper's own set-up (falcon-rw-1b, IWSLT 2017, five language pairs); flags after it win. Interrupted,
the same command goes on; what is finished is not run again.
"""

import sys
from dataclasses import replace
from pathlib import Path

from transformers_simul.research.experiment import PAPER, Experiment, ExperimentArguments, write_report
from transformers_simul.training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    check_writable,
    load_pairs,
    parse_flags,
    run_program,
)


def main() -> None:
    flags = sys.argv[1:]
    if "--paper" in flags:
        flags = [*PAPER, *(flag for flag in flags if flag != "--paper")]
    kinds = (ExperimentArguments, ModelArguments, DataArguments, ProgramArguments)
    arguments, model, data, training = parse_flags(kinds, flags, __doc__)
    output = Path(training.output_dir)
    check_writable(output)
    needed = ["train", "test"] if training.eval_strategy == "no" else ["train", "validation", "test"]
    # Every corpus is read before the first model is trained.
    corpora = {}
    for language in data.target_langs or [data.target_lang]:
        # A comparison for each, of models that learn one.
        here = replace(data, target_lang=language, target_langs=[])
        corpora[f"{data.source_lang}-{language}"] = (here, load_pairs(here, needed))
    for name, (here, pairs) in corpora.items():
        experiment = Experiment(output / name, pairs, arguments, here, model, training)
        experiment.train()
        print(write_report(experiment, experiment.translate(), experiment.count_flops(), flags))


if __name__ == "__main__":
    run_program(main)
