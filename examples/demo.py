# SPDX-License-Identifier: Apache-2.0
"""What simultaneous translation looks like, with the models of this repository: `make demo`.

Streams sentences word by word; compares the model that was fine-tuned under SimulMask with the one that was fine-tuned
as long on full sentences, both with a kept cache, on 120 everyday sentences; says what to try next.
"""

import time
from pathlib import Path

from transformers_simul import AutoSimulModel, OfflinePolicy, SimulProcessor, WaitKPolicy, translate_stream
from transformers_simul.cli.flags import CommandParser
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.report import FULL_SOURCE, difference, report_line
from transformers_simul.text_files import read_lines, write_text
from transformers_simul.training import run_program

ROOT = Path(__file__).parents[1]
MODELS = {"SimulMask": "models/simul-falcon-en-de", "offline": "models/falcon-en-de-offline"}
LAGS = (1, 3, 5, 7)
SHOWN = (
    "Although he was tired, he continued to work until midnight.",
    "I read in the newspaper that the factory will be closed.",
    "She wants to buy a new car at the end of the year.",
)
# A speaker's rate, in words a second; the first sentence is shown at it, the others as fast as they come.
RATE = 3.0

NEXT = """
Talk to it:
  .venv/bin/transformers-simul translate models/simul-falcon-en-de    # type; words come out while you do
  .venv/bin/transformers-simul demo models/simul-falcon-en-de         # a page that shows what was read when
  .venv/bin/transformers-simul serve models/simul-falcon-en-de        # for programs, over HTTP and WebSocket
Train your own:
  make train                                                         # a small one from scratch, ten minutes
  .venv/bin/transformers-simul train --model_name_or_path tiiuae/falcon-rw-1b \\
    --train_file train.jsonl --test_file test.jsonl --source_lang en --target_lang de --do_train --do_predict \\
    --wait_k 5 --bf16 --learning_rate 2e-4 --output_dir output/falcon-rw-1b    # a real checkpoint; a GPU helps
"""


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for the table and the curve")
    parser.add_argument("--max-sentences", type=int, help="compare on so many sentences only")
    args = parser.parse_args()
    loaded = {name: load(ROOT / folder) for name, folder in MODELS.items()}
    for number, sentence in enumerate(SHOWN):
        show(*loaded["SimulMask"], sentence, pause_s=0.0 if number else 1 / RATE)
    compare(loaded, args.output, args.max_sentences)
    print(NEXT)


def load(folder: Path):
    return AutoSimulModel.from_pretrained(str(folder)).eval(), SimulProcessor.from_pretrained(str(folder))


def show(model, processor, sentence: str, pause_s: float) -> None:
    """Stream one sentence under wait-3: left what has been read, right the word that was written then."""
    words = processor.split(sentence)
    width = len(sentence) + 2

    def speak():
        for word in words:
            time.sleep(pause_s)
            yield word

    print(f"\n{'English, as far as it has been heard':<{width}}German, word by word (wait-3)")
    written = []
    for word in translate_stream(model, processor, speak() if pause_s else words, WaitKPolicy(3)):
        written.append(word.text)
        print(f"{' '.join(words[: word.delay]):<{width}}{word.text}", flush=True)
    print(f"{'':<{width}}= {' '.join(written)}")


def compare(loaded, output: Path, max_sentences: int | None) -> None:
    """Translate the everyday sentences with both models under each policy; write and print the table and the curve."""
    sources, references = (read_lines(ROOT / f"examples/everyday.{code}")[:max_sentences] for code in ("en", "de"))
    policies = {f"k = {k}": WaitKPolicy(k) for k in LAGS} | {FULL_SOURCE: OfflinePolicy()}
    print(f"\nThe same on {len(sources)} sentences, with both models:", flush=True)
    logs = {
        (system, name): translate_corpus(*each, sources, references, policy, 32)
        for system, each in loaded.items()
        for name, policy in policies.items()
    }
    curves = {
        system: [report_line(name, logs[system, name], metrics=("BLEU",)) for name in policies] for system in loaded
    }
    rows = [
        "| policy | SimulMask: BLEU | offline model: BLEU | difference, paired | LAAL (source words) |",
        "|---|---|---|---|---|",
    ]
    for place, name in enumerate(policies):
        ours, theirs = (curves[system][place] for system in MODELS)
        gap = difference(logs["SimulMask", name], logs["offline", name])
        rows.append(f"| {name} | {ours.quality[0]} | {theirs.quality[0]} | {gap} | {ours.latency['LAAL']:.2f} |")
    rows.append("\nIn brackets 95% bootstrap intervals. Both keep their cache: nothing is computed twice.")
    table = "\n".join(rows)
    write_text(output / "results.md", table + "\n")
    plot_curves(output / "quality_latency.png", curves, f"English-German, {len(sources)} everyday sentences")
    print(f"\n{table}\n\nWritten: {output / 'results.md'}, {output / 'quality_latency.png'}", flush=True)


if __name__ == "__main__":
    run_program(main)
