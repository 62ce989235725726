# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a language model for simultaneous translation, translate a test set while reading it, and stream sentences.

The flags are those of Transformers' run_translation.py where they mean the same; `--help` lists them all. The program
is a file of the package, src/transformers_simul/cli/train.py: `transformers-simul train` runs it too.
"""

from transformers_simul.cli.train import main
from transformers_simul.training import run_program

if __name__ == "__main__":
    run_program(main)
