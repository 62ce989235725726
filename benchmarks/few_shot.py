# SPDX-License-Identifier: Apache-2.0
"""A pretrained model as it comes, few-shot: full source, then greedy translation, after examples from the training set.

Usage: benchmarks/few_shot.py MODEL_FOLDER BOS SOURCE_LANG TARGET_LANG TRAIN_SOURCE TRAIN_TARGET TEST_SOURCE TEST_TARGET
       OUTPUT_FOLDER [SENTENCES [EXAMPLES]]
"""

import sys
from pathlib import Path

from transformers import AutoTokenizer

from transformers_simul import AutoSimulModel, OfflinePolicy, SimulProcessor
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import run_settings, translate_corpus
from transformers_simul.evaluation.instances import write_instances
from transformers_simul.evaluation.report import FULL_SOURCE, markdown_table, report_line
from transformers_simul.models.processing import LANGUAGES
from transformers_simul.text_files import write_text
from transformers_simul.training import run_program


def main() -> None:
    folder, bos, source, target, *files, output = sys.argv[1:10]
    sentences, examples = (int(number) for number in [*sys.argv[10:], *("100", "5")[len(sys.argv) - 10 :]])
    train, test = read_pairs(files[:2], source, target), read_pairs(files[2:], source, target)[:sentences]
    names = (LANGUAGES[source], LANGUAGES[target])
    shots = "".join(f"{names[0]}: {pair.source}\n{names[1]}: {pair.target}\n" for pair in train[:examples])
    shots = shots.replace("{", "{{").replace("}", "}}")
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    # A base model ends an answer with the line.
    newline = tokenizer.convert_ids_to_tokens(tokenizer.encode("a\n", add_special_tokens=False))[-1]
    template = f"{bos}{shots}{names[0]}: {{source}}\n{names[1]}: {{target}}"
    processor = SimulProcessor(tokenizer, source, target, template=template, eos_token=newline)
    model = AutoSimulModel.from_pretrained(folder).eval()
    sources, references = zip(*test, strict=True)
    log = translate_corpus(model, processor, sources, references, OfflinePolicy(), 16, max_new_tokens=64)
    settings = run_settings(OfflinePolicy(), model.dtype, model.device, system=f"{examples}-shot")
    write_instances(Path(output) / "instances.log", log)
    table = markdown_table([report_line(FULL_SOURCE, log, settings=settings)])
    write_text(Path(output) / "results.md", table + "\n")
    print(table)


if __name__ == "__main__":
    run_program(main)
