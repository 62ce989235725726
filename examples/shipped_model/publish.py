# SPDX-License-Identifier: Apache-2.0
"""Write models/ and docs/results/shipped-model.md from what train.sh trained.

  python examples/shipped_model/publish.py WORK TATOEBA

Weights are stored in bfloat16 and computed with in float32. The modelling files of models/simul-falcon-en-de are links
to the package's own, so that they cannot differ.
"""

import functools
import json
import os
import shutil
from pathlib import Path

import torch
from training_text import read_gzip

from transformers_simul import AutoSimulModel, OfflinePolicy, SimulProcessor, WaitKPolicy
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation import Instance
from transformers_simul.evaluation.decode import finished_log, run_settings, translate_corpus, weights_key
from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.report import FULL_SOURCE, difference, log_name, markdown_table, report_line
from transformers_simul.models import modeling_simul_falcon
from transformers_simul.publishing.model_card import training_sentence, write_model_card
from transformers_simul.text_files import read_json, read_lines, write_text
from transformers_simul.training import run_program

ROOT = Path(__file__).parents[2]
SHIPPED = {"simul": ROOT / "models" / "simul-falcon-en-de", "offline": ROOT / "models" / "falcon-en-de-offline"}
POLICIES = {f"k = {k}": WaitKPolicy(k) for k in (1, 3, 5, 7)} | {FULL_SOURCE: OfflinePolicy()}
LONG_WORDS = 7
# How many of examples/everyday.en the page shows; all of them are scored.
SHOWN = 50

ABOUT_TRAINING = """Data, English to German: [Tatoeba](https://tatoeba.org)
([CC-BY 2.0 FR](https://creativecommons.org/licenses/by/2.0/fr/), by its contributors),
[LibreOffice's help](https://help.libreoffice.org) ([MPL-2.0](https://www.mozilla.org/MPL/2.0/)) and the text of
[Home Assistant](https://www.home-assistant.io) ([Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0)): short
sentences, of {words:.1f} English words on average. Not trained on: Tatoeba's test set, Multi30k, news, TED.

Training had two stages. The first made a base from scratch on full sentences. {base} The second fine-tuned it
under SimulMask, with a policy drawn for each example, as shown below. To repeat both, run
`examples/shipped_model/train.sh` in the repository of transformers_simul."""

PAGE = """# The shipped model

`models/simul-falcon-en-de` comes with the repository: SimulFalcon with {parameters} parameters (6 layers of 320, ALiBi,
a joint byte-level BPE of 8,000), English to German, trained on Tatoeba, LibreOffice's help and Home Assistant's text,
{words:.1f} English words a pair on average, by `examples/shipped_model/train.sh` on one core of a CPU. Beside it
`models/falcon-en-de-offline`: the same base, fine-tuned for as many steps on full sentences, for comparison.
`examples/shipped_model/publish.py` writes this page.

Base: {base}
SimulMask: {simul}
Offline: {offline}

## Tatoeba's test set

No English sentence of it is in the training text. Sentences of {long} words and more:

{long_table}

Minus the offline model, which decodes under the same policy with a kept cache (BLEU, paired 95% intervals): {gaps}.

Full source minus k = 7, the same model: {full}.

All of it:

{all_table}

## Everyday sentences

The 120 of `examples/everyday.en`, written for this purpose, of a kind that people type:

{everyday_table}

Storing the weights in bfloat16 (and computing in float32) changes BLEU at k = 3 on Tatoeba's test set by {rounding}.

## Fifty of them, good and bad

The first fifty, as the model streams them under wait-3; none was left out.

{sentences}
"""


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("work", type=Path, help="what train.sh wrote")
    parser.add_argument("tatoeba", type=Path, help="with test.en-de.{en,de}.gz")
    args = parser.parse_args()
    test = [read_gzip(args.tatoeba / f"test.en-de.{code}.gz") for code in ("en", "de")]
    everyday = [read_lines(ROOT / "examples" / f"everyday.{code}") for code in ("en", "de")]
    records = {name: read_json(args.work / name / "training.json") for name in ("base", *SHIPPED)}
    done = {name: training_sentence(record["done"]) for name, record in records.items()}
    for name, folder in SHIPPED.items():
        save(args.work / name, folder)
    logs = args.work / "logs"
    on_test = {name: translate(folder, test, logs / name) for name, folder in SHIPPED.items()}
    on_everyday = translate(SHIPPED["simul"], everyday, logs / "everyday")
    unrounded = translate(args.work / "simul", test, logs / "unrounded", ["k = 3"])
    lines = scored(on_test["simul"])
    folder = SHIPPED["simul"]
    plot_curves(folder / "quality_latency.png", {"SimulMask": lines}, "Tatoeba's test set, en-de")
    words = english_words(args.work)
    about = ABOUT_TRAINING.format(base=done["base"], words=words)
    write_model_card(folder, lines, folder.name, "apache-2.0", about, "Tatoeba")
    write_offline_note()
    longer = {name: {policy: long_ones(log) for policy, log in logs.items()} for name, logs in on_test.items()}
    gaps = [f"{name} {difference(longer['simul'][name], longer['offline'][name])}" for name in POLICIES]
    page = PAGE.format(
        parameters=f"{parameters(folder) / 1e6:.1f} M",
        words=words,
        long=LONG_WORDS,
        long_table=markdown_table(scored(longer["simul"])),
        all_table=markdown_table(lines),
        gaps=", ".join(gaps),
        full=difference(longer["simul"][FULL_SOURCE], longer["simul"]["k = 7"]),
        everyday_table=markdown_table(scored(on_everyday)),
        rounding=difference(on_test["simul"]["k = 3"], unrounded["k = 3"]),
        sentences="\n".join(sentence_lines(on_everyday["k = 3"][:SHOWN])),
        **done,
    )
    write_text(ROOT / "docs" / "results" / "shipped-model.md", page)


def save(trained: Path, folder: Path) -> None:
    """Store a trained folder as a Hub folder: bfloat16, computed with in float32, no state of the training."""
    # Transformers copies code into the folder: links of an earlier run would lead it into the package.
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoSimulModel.from_pretrained(str(trained), dtype=torch.bfloat16)
    model.generation_config.use_cache = True
    if folder == SHIPPED["simul"]:
        model.generation_config.wait_k = 3
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    SimulProcessor.from_pretrained(str(trained)).save_pretrained(folder)
    write_text(folder / "training.json", (trained / "training.json").read_text(encoding="utf-8"))
    config = read_json(folder / "config.json") | {"dtype": "float32", "use_cache": True}
    write_json(folder / "config.json", config)
    package = Path(modeling_simul_falcon.__file__).parent
    for copy in folder.glob("*.py"):
        copy.unlink()
        if folder == SHIPPED["simul"]:
            copy.symlink_to(os.path.relpath(package / copy.name, folder))
    if folder != SHIPPED["simul"]:
        # It is read by this package alone.
        for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
            content = read_json(folder / name)
            content.pop("auto_map", None)
            write_json(folder / name, content)


def write_json(path: Path, content: dict) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_offline_note() -> None:
    write_text(
        SHIPPED["offline"] / "README.md",
        "# falcon-en-de-offline\n\nThe base of `simul-falcon-en-de`, fine-tuned for as many steps on full sentences: "
        "what `make demo` compares with. Its data and its licence are those of `simul-falcon-en-de`; it is loaded by "
        "transformers_simul.\n",
    )


def translate(folder: Path, test: list[list[str]], logs: Path, names=tuple(POLICIES)) -> dict[str, list[Instance]]:
    """The test set under each policy; finished logs of the same weights and sentences are reused."""
    model, processor = AutoSimulModel.from_pretrained(str(folder)).eval(), SimulProcessor.from_pretrained(str(folder))
    return {
        name: finished_log(
            logs / log_name(name) / "instances.log",
            weights_key(str(folder), *test),
            functools.partial(translate_corpus, model, processor, *test, POLICIES[name], 32),
            run_settings(POLICIES[name], model.dtype, model.device),
        )
        for name in names
    }


def long_ones(log: list[Instance]) -> list[Instance]:
    return [each for each in log if each.source_length >= LONG_WORDS]


def scored(logs: dict[str, list[Instance]]):
    """A line for each policy."""
    return [
        report_line(name, log, settings=run_settings(POLICIES[name], torch.float32, torch.device("cpu")))
        for name, log in logs.items()
    ]


def english_words(work: Path) -> float:
    """English words of a training pair, on average."""
    lines = read_lines(work / "data" / "train.en")
    return sum(len(line.split()) for line in lines) / len(lines)


def parameters(folder: Path) -> int:
    return AutoSimulModel.from_pretrained(str(folder)).num_parameters()


def sentence_lines(log: list[Instance]):
    yield from ("| English | German, wait-3 | a person's |", "|---|---|---|")
    for each in log:
        yield f"| {each.source} | {each.prediction} | {each.reference} |"


if __name__ == "__main__":
    run_program(main)
