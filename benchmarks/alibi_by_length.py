# SPDX-License-Identifier: Apache-2.0
"""Positional confusion by length: modified, plain and no ALiBi, on sentences and on consecutive sentences of documents.

A model trained with plain ALiBi counts hidden source in its distances; a decoder cannot, since it does not know how
much is still to come. So its loss on reference targets is taken twice: with the positions that it was trained with,
and with those that decoding has. The difference is the confusion. By the law's invariant the second is the loss that
streaming gives, from one masked forward. A gap of n hidden tokens costs a head its slope times n, so steep and flat
heads are also changed apart. BLEU is that of real decoding. Intervals: 95%, bootstrap over rows, paired.

Usage: benchmarks/alibi_by_length.py MODELS_FOLDER SOURCE_FILE TARGET_FILE OUTPUT_NAME [--k 3] [--lengths 1 2 4 8]

MODELS_FOLDER holds simulmask-kK, simulmask-plain-alibi-kK and simulmask-no-alibi-kK, as examples/run_experiment.py
leaves them. Neighbouring lines of the text should be neighbours in a document. Writes OUTPUT_NAME.md and .png.
"""

from pathlib import Path
from typing import Any

import numpy
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from transformers_simul import AutoSimulModel, SimulMaskDataCollator, SimulProcessor, WaitKPolicy
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import Pair, read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.quality import quality
from transformers_simul.evaluation.report import difference
from transformers_simul.text_files import write_text

FOLDERS = {"modified": "simulmask", "plain": "simulmask-plain-alibi", "none": "simulmask-no-alibi"}
PLAIN_TRAINED, PLAIN_DECODED = "plain, as trained", "plain, as decoded"
STEEP, FLAT = "steep heads as decoded", "flat heads as decoded"
BANDS = (10, 20, 30)

# A row's summed loss and its target tokens.
Losses = numpy.ndarray


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("output", type=Path)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 4, 8], help="sentences joined to a row")
    parser.add_argument("--sentences", type=int, help="of the text; all unless told")
    parser.add_argument("--translate-sentences", type=int, default=480, help="of these, for BLEU")
    args = parser.parse_args()
    pairs = read_pairs([args.source, args.target], "source", "target")[: args.sentences]
    texts = {count: [join(pairs[i : i + count]) for i in range(0, len(pairs), count)] for count in args.lengths}
    loaded = {name: load(args.models / f"{folder}-k{args.k}") for name, folder in FOLDERS.items()}
    losses = {count: row_losses(loaded, rows, args.k) for count, rows in texts.items()}
    page = [f"{len(pairs)} sentences, wait-{args.k}; loss per target token; in brackets 95% intervals.", ""]
    page += loss_table({f"{count} ({words(texts[count]):.0f})": losses[count] for count in texts}, "sentences (words)")
    if 1 in texts:
        page += ["", "Single sentences by length:", ""]
        page += loss_table(by_band(texts[1], losses[1]), "source words")
    page += ["", "The plain model, as trained but for some heads: what they alone add to its loss.", ""]
    page += head_table(losses)
    page += ["", f"BLEU of the first {args.translate_sentences} sentences, and what the modified model is ahead:", ""]
    rows = {count: each[: -(-args.translate_sentences // count)] for count, each in texts.items()}
    page += quality_table(loaded, rows, args.k)
    write_text(args.output.with_suffix(".md"), "\n".join(page) + "\n")
    print("\n".join(page))
    draw(args.output.with_suffix(".png"), losses, args.k)


def join(run: list[Pair]) -> Pair:
    return Pair(" ".join(pair.source for pair in run), " ".join(pair.target for pair in run))


def words(rows: list[Pair]) -> float:
    return sum(len(row.source.split()) for row in rows) / len(rows)


def load(folder: Path) -> tuple[Any, SimulProcessor]:
    return AutoSimulModel.from_pretrained(folder).eval(), SimulProcessor.from_pretrained(folder)


def row_losses(loaded: dict[str, tuple[Any, SimulProcessor]], rows: list[Pair], k: int) -> dict[str, Losses]:
    """Of each row, by name of the model and its positions, shape `(rows, 2)`."""
    (modified, processor), (plain, _), (none, _) = (loaded[name] for name in FOLDERS)
    losses = {"modified": measure(modified, processor, rows, k), "none": measure(none, processor, rows, k)}
    losses[PLAIN_TRAINED] = measure(plain, processor, rows, k)
    slopes, _ = plain.base_model.alibi()
    is_steep = slopes >= slopes.median()
    build = plain.base_model._mask
    for name, heads in ((PLAIN_DECODED, is_steep | True), (STEEP, is_steep), (FLAT, ~is_steep)):
        plain.base_model._mask = MixedMask(build, heads)
        losses[name] = measure(plain, processor, rows, k)
    plain.base_model._mask = build
    return losses


class MixedMask:
    """Masks of some heads with the positions of decoding, of the others with those of training."""

    def __init__(self, build: Any, heads: torch.Tensor):
        self.build, self.heads = build, heads[:, None, None]

    def __call__(self, pattern: Any, dtype: torch.dtype, decoding: bool) -> torch.Tensor:
        decoded = self.build(pattern, dtype, decoding=True)
        return torch.where(self.heads, decoded, self.build(pattern, dtype, decoding=False))


@torch.no_grad()
def measure(model: Any, processor: SimulProcessor, rows: list[Pair], k: int, batch_size: int = 16) -> Losses:
    collator = SimulMaskDataCollator(processor, WaitKPolicy(k), peek_rows=0)
    losses = numpy.zeros((len(rows), 2))
    # Rows of like length side by side.
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].source))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collator([rows[index]._asdict() for index in chosen])
        labels = batch["labels"][:, 1:]
        logits = model(**batch, use_cache=False).logits[:, :-1].float()
        costs = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        losses[chosen] = torch.stack([costs.sum(1), (labels != -100).sum(1)], dim=1).double().numpy()
    return losses


def mean(losses: Losses) -> float:
    return float(losses[:, 0].sum() / losses[:, 1].sum())


def gap(first: Losses, second: Losses) -> str:
    """Mean loss of the first minus that of the second, with an interval over rows."""
    draws = numpy.random.default_rng(0).integers(len(first), size=(1000, len(first)))
    gaps = (first[draws, 0].sum(1) - second[draws, 0].sum(1)) / first[draws, 1].sum(1)
    low, high = numpy.percentile(gaps, [2.5, 97.5])
    return f"{mean(first) - mean(second):+.4f} ({low:+.4f} to {high:+.4f})"


def loss_table(groups: dict[str, dict[str, Losses]], title: str) -> list[str]:
    rows = [
        f"| {title} | rows | modified | {PLAIN_TRAINED} | {PLAIN_DECODED} | none | confusion | "
        "plain as decoded minus modified | none minus modified |",
        "|---" * 9 + "|",
    ]
    for name, losses in groups.items():
        means = [f"{mean(losses[each]):.3f}" for each in ("modified", PLAIN_TRAINED, PLAIN_DECODED, "none")]
        gaps = [
            gap(losses[PLAIN_DECODED], losses[PLAIN_TRAINED]),
            gap(losses[PLAIN_DECODED], losses["modified"]),
            gap(losses["none"], losses["modified"]),
        ]
        rows.append(f"| {name} | {len(losses['modified'])} | {' | '.join([*means, *gaps])} |")
    return rows


def by_band(rows: list[Pair], losses: dict[str, Losses]) -> dict[str, dict[str, Losses]]:
    """Losses of the rows whose source has so many words."""
    lengths, groups = numpy.array([len(row.source.split()) for row in rows]), {}
    for low, high in zip([1, *(end + 1 for end in BANDS)], [*BANDS, None], strict=True):
        chosen = (lengths >= low) & (lengths <= (high or lengths.max()))
        if chosen.any():
            name = f"{low} to {high}" if high else f"{low} and more"
            groups[name] = {each: values[chosen] for each, values in losses.items()}
    return groups


def head_table(losses: dict[int, dict[str, Losses]]) -> list[str]:
    rows = [f"| sentences | {STEEP} | {FLAT} | all heads as decoded |", "|---" * 4 + "|"]
    for count, each in losses.items():
        gaps = [gap(each[name], each[PLAIN_TRAINED]) for name in (STEEP, FLAT, PLAIN_DECODED)]
        rows.append(f"| {count} | {' | '.join(gaps)} |")
    return rows


def quality_table(loaded: dict[str, tuple[Any, SimulProcessor]], texts: dict[int, list[Pair]], k: int) -> list[str]:
    rows = ["| sentences | rows | modified | plain | none | minus plain | minus none |", "|---" * 7 + "|"]
    for count, pairs in texts.items():
        sources, references = zip(*pairs, strict=True)
        logs = {name: translate_corpus(*each, sources, references, WaitKPolicy(k), 32) for name, each in loaded.items()}
        scores = [quality([e.prediction for e in log], list(references), names=["BLEU"])[0] for log in logs.values()]
        gaps = [difference(logs["modified"], logs[name]) for name in ("plain", "none")]
        rows.append(f"| {count} | {len(pairs)} | {' | '.join([*map(str, scores), *gaps])} |")
    return rows


def draw(path: Path, losses: dict[int, dict[str, Losses]], k: int) -> None:
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lines = {"modified": "#0b6e99", PLAIN_DECODED: "#d9622b", PLAIN_TRAINED: "#e8b79c", "none": "#5b8c2a"}
    for name, colour in lines.items():
        axes.plot([*losses], [mean(each[name]) for each in losses.values()], marker="o", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks([*losses], [str(count) for count in losses])
    axes.minorticks_off()
    axes.set_xlabel("consecutive sentences in a row")
    axes.set_ylabel(f"loss per target token, wait-{k}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main()
