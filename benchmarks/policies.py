# SPDX-License-Identifier: Apache-2.0
"""Adaptive policies against wait-k at equal latency, for a trained folder and a corpus: BLEU and chrF++ over LAAL, a
table with paired intervals, pictures. Interrupted, the same command goes on: finished logs are read.

    python benchmarks/policies.py output/mine test.en test.de --output output/policies --max_samples 300

Hypothesis: at LAAL 2 to 5 the best adaptive policy is at least 1.0 BLEU ahead of wait-k, and learned READ ahead of the
untrained ones.
"""

import functools
from pathlib import Path

import transformers_simul as simul
from by_latency import NOTE, differences
from transformers_simul.cli.flags import CommandParser
from transformers_simul.corpora import read_pairs
from transformers_simul.evaluation.decode import finished_log, run_settings, translate_corpus, weights_key
from transformers_simul.evaluation.plots import plot_curves
from transformers_simul.evaluation.report import by_kind, log_name, markdown_table, report_line
from transformers_simul.text_files import write_text

POLICIES = [
    *(f"wait-{k}" for k in (1, 2, 3, 4, 5, 7, 9)),
    *(f"learned:{threshold}" for threshold in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)),
    *(f"confidence:{alpha}" for alpha in (0.2, 0.35, 0.5, 0.7, 0.9)),
    *(f"hold-{words}" for words in (1, 2, 3, 4, 5)),
    *(f"agree-2:min={lag}" for lag in (1, 2, 3, 4, 5)),
    *(f"ralcp:0.5,min={lag}" for lag in (1, 2, 3, 4, 5)),
]
ALIGNATT = [f"alignatt-{words}" for words in (1, 2, 3, 4, 5)]


def main() -> None:
    parser = CommandParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs=2, metavar="FILE")
    parser.add_argument("--output", type=Path, default=Path("output/policies"))
    parser.add_argument("--policies", nargs="+", help="names; five of each kind unless told")
    parser.add_argument("--laal", nargs="+", type=float, default=[2.0, 3.0, 4.0, 5.0])
    parser.add_argument("--max-samples", type=int)
    parser.add_argument("--least-words", type=int, default=1, help="leave shorter sources out")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    model = simul.AutoSimulModel.from_pretrained(args.model).eval()
    processor = simul.SimulProcessor.from_pretrained(args.model)
    heads = model.generation_config.to_dict().get("alignment_heads")
    names = args.policies or [*POLICIES, *(ALIGNATT if heads else [])]
    policies = {name: simul.policy_from_name(name) for name in names}
    for policy in policies.values():
        policy.for_model(model)
    pairs = read_pairs(args.files, "source", "target")
    pairs = [pair for pair in pairs if len(processor.split(pair.source)) >= args.least_words][: args.max_samples]
    if not pairs:
        raise ValueError(f"least_words must leave sentences, got {args.least_words}.")
    sources, references = zip(*pairs, strict=True)
    logs = {
        name: finished_log(
            args.output / "logs" / log_name(name) / "instances.log",
            weights_key(args.model, pairs, repr(policy), heads),
            functools.partial(translate_corpus, model, processor, sources, references, policy, args.batch_size),
            run_settings(policy, model.dtype, model.device),
        )
        for name, policy in policies.items()
    }
    curves = by_kind([report_line(name, log, resamples=args.resamples) for name, log in logs.items()])
    curves = {"wait-k" if kind == "wait" else kind: lines for kind, lines in curves.items()}
    parts = [markdown_table([line for lines in curves.values() for line in lines])]
    for metric in ("BLEU", "chrF++"):
        plot_curves(args.output / f"{metric.lower()}.png", curves, metric=metric)
        if "wait-k" in curves:
            parts.append(gains(curves, logs, args.laal, metric, args.resamples))
    write_text(args.output / "results.md", "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def gains(curves, logs, laals, metric, resamples) -> str:
    """Each adaptive kind minus wait-k at equal LAAL."""
    points = {kind: [logs[line.name] for line in lines] for kind, lines in curves.items()}
    base = points.pop("wait-k")
    rows = [(kind, curve, base) for kind, curve in points.items()]
    table = differences(f"{metric} minus wait-k's", rows, laals, metric, resamples)
    return f"{table}\n\n{len(base[0])} sentences; {NOTE}"


if __name__ == "__main__":
    main()
