# SPDX-License-Identifier: Apache-2.0
"""How positional confusion grows with length: modified, plain and no ALiBi on concatenated sentences.

A model trained with plain ALiBi counts hidden source in its distances; a decoder cannot, since it does not know how
much is still to come. So each model's loss on reference targets is taken twice: with the positions that it was trained
with, and with those that decoding has. The difference is the confusion. By the law's invariant the second is the loss
that streaming gives, from one masked forward. BLEU and chrF++ are those of real decoding.

Usage: benchmarks/alibi_by_length.py MODELS_FOLDER SOURCE_FILE TARGET_FILE OUTPUT_NAME
"""

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from transformers_simul import AutoSimulModel, SimulMaskDataCollator, SimulProcessor, WaitKPolicy
from transformers_simul.corpora import Pair, read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import quality
from transformers_simul.text_files import write_text

MODELS = {"modified": "simulmask-k3", "plain": "simulmask-plain-alibi-k3", "none": "simulmask-no-alibi-k3"}
SENTENCES, LENGTHS, K = 240, (1, 4, 12, 24), 3


def main(models: Path, source: str, target: str, output: Path) -> None:
    pairs = read_pairs([source, target], "source", "target")[:SENTENCES]
    rows = [
        "| sentences (source words) | ALiBi | loss as trained | loss as decoded | confusion | BLEU | chrF++ |",
        "|---|---|---|---|---|---|---|",
    ]
    curves: dict[str, list[float]] = {}
    for count in LENGTHS:
        texts = [join(pairs[start : start + count]) for start in range(0, SENTENCES, count)]
        words = sum(len(text.source.split()) for text in texts) / len(texts)
        for name, folder in MODELS.items():
            model = AutoSimulModel.from_pretrained(models / folder).eval()
            processor = SimulProcessor.from_pretrained(models / folder)
            trained = decoded = loss(model, processor, texts)
            if name == "plain":
                model.config.positions = "modified"
                decoded = loss(model, processor, texts)
            log = translate_corpus(
                model, processor, [text.source for text in texts], [text.target for text in texts], WaitKPolicy(K), 20
            )
            scores = quality([each.prediction for each in log], [each.reference for each in log], 1)
            rows.append(
                f"| {count} ({words:.0f}) | {name} | {trained:.3f} | {decoded:.3f} | {decoded - trained:+.3f} | "
                f"{scores[0].score:.1f} | {scores[1].score:.1f} |"
            )
            print(rows[-1], flush=True)
            curves.setdefault(name, []).append(decoded)
            if name == "plain":
                curves.setdefault("plain, with the positions of its training", []).append(trained)
    write_text(output.with_suffix(".md"), "\n".join(rows) + "\n")
    draw(output.with_suffix(".png"), curves)


def join(run: list[Pair]) -> Pair:
    return Pair(" ".join(pair.source for pair in run), " ".join(pair.target for pair in run))


@torch.no_grad()
def loss(model, processor, texts: list[Pair]) -> float:
    """Mean negative log probability of a target token, the reference given, under wait-k."""
    collator = SimulMaskDataCollator(processor, WaitKPolicy(K), peek_rows=0)
    total, tokens = 0.0, 0
    for start in range(0, len(texts), 8):
        batch = collator([pair._asdict() for pair in texts[start : start + 8]])
        count = int((batch["labels"] != -100).sum())
        total += float(model(**batch, use_cache=False).loss) * count
        tokens += count
    return total / tokens


def draw(path: Path, curves: dict[str, list[float]]) -> None:
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, losses), colour in zip(curves.items(), ("#0b6e99", "#d9622b", "#e8b79c", "#5b8c2a"), strict=True):
        axes.plot(LENGTHS, losses, marker="o", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(LENGTHS, [str(count) for count in LENGTHS])
    axes.set_xlabel("sentences joined")
    axes.set_ylabel(f"loss per target token while decoding, wait-{K}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
