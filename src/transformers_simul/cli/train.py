# SPDX-License-Identifier: Apache-2.0
"""The program behind `transformers-simul train` and `evaluate` and examples/run_simul_translation.py: fine-tune a
language model for simultaneous translation, translate a test set while reading it, and stream sentences.

The flags are those of Transformers' run_translation.py where they mean the same; `--help` lists them all.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState

from .. import (
    AutoSimulModel,
    OfflinePolicy,
    SimulMaskDataCollator,
    SimulProcessor,
    WaitKPolicy,
    join_documents,
    translate_stream,
)
from ..corpora import CORPORA, Pair
from ..evaluation.decode import finished_log, run_settings, translate_corpus, weights_key
from ..evaluation.report import FULL_SOURCE, by_kind, difference, log_name, markdown_table, report_line
from ..models.decoding_weights import check_kind, set_decoding_weights
from ..models.policies import Policy, check_count
from ..models.policy_names import policy_from_name
from ..models.positions import check_context
from ..publishing.model_card import training_sentence, write_model_card
from ..text_files import write_text
from ..training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    SimulTrainer,
    check_writable,
    drop_long_pairs,
    encode,
    fine_tune,
    is_trained,
    load_languages,
    make_model,
    make_processor,
    parse_flags,
    prepare_folder,
    read_alignments,
    training_policy,
    training_record,
)
from ..training.record import read_record
from .loading import find_checkpoint

# Arguments of ours that leave the trained weights as they are; wait_k is recorded as the policy, and a time limit
# decides only whether there is more to do.
_HARMLESS = (
    "wait_k",
    "eval_wait_k",
    "eval_policy",
    "stream_sentences",
    "max_train_minutes",
    "predict_batch_size",
    "decoding_weights",
)


@dataclass
class SimulArguments:
    """The flags that say when to READ and WRITE."""

    wait_k: list[str] = field(
        default_factory=lambda: ["3"],
        metadata={
            "help": "Training policy: one k, 'full', 'random-LEAST-GREATEST' lag, 'aligned' or 'aligned-MARGIN'; of "
            "several, one is drawn per example."
        },
    )
    eval_wait_k: list[int] = field(
        default_factory=lambda: [1, 3, 5, 7], metadata={"help": "Policies to translate with."}
    )
    eval_policy: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further policies to translate with, by name, such as learned:0.5 or confidence:0.6,max=7 "
            "(docs/policies.md).",
            "aliases": ["--policy"],
        },
    )
    peek_rows: float = field(default=1.0, metadata={"help": "Share of peek rows; 0 is the paper's plain form."})
    packing: bool = field(default=False, metadata={"help": "Lay several pairs into one row of --max_length."})
    context_sentences: int = field(
        default=0,
        metadata={
            "help": "Train each sentence with so many before it in view, on files whose neighbouring pairs follow each "
            "other in a document (docs/decoding.md#context-across-sentences)."
        },
    )
    run_sentences: int = field(
        default=8,
        metadata={"help": "Consecutive sentences of a row, with --context_sentences; each counts as an example."},
    )
    stream_sentences: int = field(default=3, metadata={"help": "Test sentences to stream at the end."})
    max_train_minutes: float | None = field(
        default=None, metadata={"help": "Stop training after so long, in all runs together."}
    )
    early_stopping_patience: int | None = field(default=None, metadata={"help": "Evaluations without progress."})
    predict_batch_size: int = field(default=32, metadata={"help": "Sentences translated side by side."})
    decoding_weights: str | None = field(
        default=None,
        metadata={
            "help": "Round the weights to translate faster on a CPU: int8, bfloat16 or float16 "
            "(docs/performance.md#smaller-weights)."
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        arguments (`Sequence[str]`, *optional*): the command line's unless told.

    Raises:
        ValueError: for wrong flags or wrong data, before anything is trained.
    """
    kinds: Any = (ModelArguments, DataArguments, SimulArguments, ProgramArguments)
    model_args, data_args, simul_args, training_args = parse_flags(kinds, arguments)
    check_policies(simul_args, training_args)
    check_context_flags(data_args, simul_args)
    if model_args.model_name_or_path:
        find_checkpoint(model_args.model_name_or_path, "model_name_or_path")
    output_dir = Path(training_args.output_dir)
    check_writable(output_dir)

    needed = {"train": training_args.do_train, "test": training_args.do_predict}
    needed["validation"] = training_args.do_eval or training_args.eval_strategy != "no"
    # One process downloads, the others find it there.
    with training_args.main_process_first(desc="reading the corpus"):
        splits, languages = load_languages(data_args, [name for name, is_needed in needed.items() if is_needed])
    counts = {name: len(splits[name]) for name in ("train", "validation") if needed[name]}
    alignments = read_needed_alignments(data_args, simul_args, counts)
    decisions = _decisions(data_args, simul_args, alignments)
    record = training_record(model_args, data_args, training_args, splits, policy=simul_args.wait_k, **decisions)
    minutes = simul_args.max_train_minutes
    if training_args.do_train:
        with training_args.main_process_first(desc="looking at the output folder"):
            starts_anew = training_args.overwrite_output_dir and training_args.process_index == 0
            has_work = prepare_folder(output_dir, record, minutes, starts_anew)
        if has_work:
            train(model_args, data_args, simul_args, training_args, splits, record, alignments, languages)
        elif training_args.process_index == 0:
            print(f"{output_dir} holds this training, finished before: nothing is trained.", flush=True)
    folder = str(output_dir) if is_trained(output_dir, record, minutes) else model_args.model_name_or_path
    if folder is None:
        raise ValueError("model_name_or_path must name a trained folder, or pass --do_train.")
    if not (training_args.do_eval or training_args.do_predict or simul_args.stream_sentences):
        return
    model = AutoSimulModel.from_pretrained(folder).to(training_args.device).eval()
    processor = SimulProcessor.from_pretrained(folder)
    if training_args.do_eval:
        evaluate(model, processor, data_args, simul_args, training_args, splits["validation"], alignments, languages)
    if simul_args.decoding_weights is not None:
        set_decoding_weights(model, simul_args.decoding_weights)
    tests = list(zip(splits["test"], languages["test"], strict=True))
    _translate_tests(model, processor, data_args, simul_args, training_args, tests, output_dir, folder)
    if data_args.target_langs and folder == str(output_dir) and not training_args.process_index:
        write_model_card(output_dir)


def _decisions(
    data_args: DataArguments, simul_args: SimulArguments, alignments: Mapping[str, Sequence]
) -> dict[str, Any]:
    """What decides the trained weights beside the model, the text and the Trainer's settings."""
    decisions = {name: value for name, value in asdict(simul_args).items() if name not in _HARMLESS}
    if not simul_args.context_sentences:
        # A training without them is the same as before there were any.
        del decisions["context_sentences"], decisions["run_sentences"]
    decisions |= {
        f"{name}_alignment": hashlib.sha256(repr(each).encode()).hexdigest() for name, each in alignments.items()
    }
    return decisions | ({"target_langs": data_args.target_langs} if data_args.target_langs else {})


def _translate_tests(
    model: Any,
    processor: SimulProcessor,
    data_args: DataArguments,
    simul_args: SimulArguments,
    training_args: ProgramArguments,
    tests: Sequence[tuple[Pair, str]],
    output_dir: Path,
    folder: str,
) -> None:
    """Translate the test set, each target language by itself, and stream a few of its sentences."""
    for language in data_args.target_langs or [data_args.target_lang]:
        # A model for one language takes what it is given for that.
        chosen = processor.with_languages(target_lang=language) if len(processor.target_langs) > 1 else processor
        test = [pair for pair, its in tests if its == language]
        if training_args.do_predict:
            place = output_dir / language if data_args.target_langs else output_dir
            predict(model, chosen, test, simul_args, place, folder)
        if not training_args.process_index:
            for pair in test[: simul_args.stream_sentences]:
                show_stream(model, chosen, pair, WaitKPolicy(min(simul_args.eval_wait_k, key=lambda k: abs(k - 3))))


def check_policies(simul_args: SimulArguments, training_args: ProgramArguments) -> None:
    """Fail for numbers out of range before the corpus is read.

    Raises:
        ValueError: for a policy that is none, a patience without evaluations to count, or `decoding_weights` that are
            unknown or for CPUs alone.
    """
    training_policy(simul_args.wait_k)
    for k in simul_args.eval_wait_k:
        WaitKPolicy(k)
    for name in simul_args.eval_policy:
        policy_from_name(name)
    patience = simul_args.early_stopping_patience
    if patience is not None and not (training_args.metric_for_best_model and training_args.eval_strategy != "no"):
        raise ValueError(
            f"early_stopping_patience needs --load_best_model_at_end and --eval_strategy steps, got {patience}."
        )
    weights = simul_args.decoding_weights
    if weights is not None:
        check_kind(weights)
        if training_args.device.type != "cpu":
            raise ValueError(f"decoding_weights must not be given on {training_args.device}, got {weights!r}.")


def check_context_flags(data_args: DataArguments, simul_args: SimulArguments) -> None:
    """Fail for context that the data cannot have, before the corpus is read.

    Raises:
        ValueError: for a number below 0, runs too short for the context, and for pairs that do not follow each other.
    """
    check_count("context_sentences", simul_args.context_sentences, least=0)
    check_count("run_sentences", simul_args.run_sentences)
    if simul_args.run_sentences <= simul_args.context_sentences:
        raise ValueError(
            f"run_sentences must be above context_sentences, {simul_args.context_sentences}, or no sentence has so "
            f"many before it in a row, got {simul_args.run_sentences}."
        )
    if simul_args.context_sentences and data_args.dataset_name in CORPORA:
        raise ValueError(
            f"context_sentences needs pairs in the order of their documents, but those of {data_args.dataset_name} are "
            "drawn at random."
        )
    if simul_args.context_sentences and data_args.concatenate != 1:
        raise ValueError(f"concatenate must be 1 with --context_sentences, got {data_args.concatenate}.")


def read_needed_alignments(data_args, simul_args, pairs: dict[str, int]) -> dict[str, list[str]]:
    """The alignments that the training policy needs of these splits, read before anything is trained."""
    files = {"train": data_args.train_alignment, "validation": data_args.validation_alignment}
    names = [name for name in simul_args.wait_k if name.startswith("aligned")]
    if not names:
        if any(files.values()):
            raise ValueError("train_alignment and validation_alignment need --wait_k aligned, which alone reads them.")
        return {}
    if data_args.concatenate != 1:
        raise ValueError(f"concatenate must be 1 with --wait_k {names[0]}, got {data_args.concatenate}.")
    for split in pairs:
        if not files[split]:
            raise ValueError(
                f"{split}_alignment must be given with --wait_k {names[0]}: transformers-simul align writes it."
            )
    return {split: read_alignments(files[split], count) for split, count in pairs.items()}


def train(model_args, data_args, simul_args, training_args, splits, record, alignments, languages) -> None:
    processor = make_processor(model_args, data_args, splits["train"])
    columns = languages if data_args.target_langs else {}
    data = {
        name: _examples(processor, splits[name], alignments.get(name), columns.get(name), simul_args)
        if splits[name]
        else None
        for name in ("train", "validation")
    }
    model = make_model(model_args, processor, seed=training_args.seed)
    if simul_args.context_sentences:
        check_context(model.config)
    fine_tune(
        model,
        processor,
        make_collator(processor, data_args, simul_args, training_args),
        data["train"],
        data["validation"],
        training_args,
        record,
        wait_k=usual_k(simul_args.wait_k),
        max_minutes=simul_args.max_train_minutes,
        patience=simul_args.early_stopping_patience,
    )


def _examples(
    processor: SimulProcessor,
    pairs: Sequence[Pair],
    alignments: Sequence[str] | None,
    target_langs: Sequence[str] | None,
    simul_args: SimulArguments,
) -> Any:
    """The data set of pairs, or of runs of them if they are to see each other."""
    dataset = encode(processor, pairs, alignments, target_langs)
    if not simul_args.context_sentences:
        return dataset
    # The pairs of each language are one text.
    documents = target_langs or [""] * len(pairs)
    with_document = ({**each, "document": name} for each, name in zip(dataset, documents, strict=True))
    return join_documents(with_document, simul_args.run_sentences)


def usual_k(names: Sequence[str]) -> int | None:
    """The middle of training's k, for `generate()` without a policy; None if it only saw full sources."""
    trained = sorted(int(name) for name in names if name.isdigit())
    return trained[len(trained) // 2] if trained else None


def make_collator(processor, data_args, simul_args, training_args) -> SimulMaskDataCollator:
    return SimulMaskDataCollator(
        processor,
        training_policy(simul_args.wait_k),
        peek_rows=simul_args.peek_rows,
        max_length=data_args.max_length,
        too_long="drop",
        packing=simul_args.packing,
        pad_to_multiple_of=data_args.pad_to_multiple_of,
        seed=training_args.seed,
        context_sentences=simul_args.context_sentences,
    )


def evaluate(model, processor, data_args, simul_args, training_args, pairs: list[Pair], alignments, languages) -> None:
    """Loss per target token on the validation pairs, under the training policy as its first epoch draws it."""
    collator = make_collator(processor, data_args, simul_args, training_args)
    collator.set_epoch(0)
    columns = languages["validation"] if data_args.target_langs else None
    dataset = _examples(processor, pairs, alignments.get("validation"), columns, simul_args)
    dataset, _ = drop_long_pairs(dataset, collator, "validation")
    trainer = SimulTrainer(model, training_args, data_collator=collator, eval_dataset=dataset)
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)


def predict(model, processor, test: list[Pair], args: SimulArguments, output_dir: Path, folder: str) -> None:
    """Translate the test set under each policy; finished logs of the same weights and sentences are reused."""
    # Before the work: it may be missing.
    from ..evaluation.plots import plot_curves

    names = [f"k = {k}" for k in args.eval_wait_k]
    policies: dict[str, Policy] = {name: WaitKPolicy(k) for name, k in zip(names, args.eval_wait_k, strict=True)}
    policies |= {name: policy_from_name(name) for name in args.eval_policy} | {FULL_SOURCE: OfflinePolicy()}
    # What the model lacks shows before hours of work.
    policies = {name: policy.for_model(model) for name, policy in policies.items()}
    sources, references = [pair.source for pair in test], [pair.target for pair in test]
    rounded = {"weights": args.decoding_weights} if args.decoding_weights else {}
    logs = {
        name: finished_log(
            output_dir / "logs" / log_name(name) / "instances.log",
            # A name's defaults and the heads that a policy looks at change its output, not its name.
            weights_key(folder, test, repr(policy), *rounded.values()),
            functools.partial(translate_corpus, model, processor, sources, references, policy, args.predict_batch_size),
            run_settings(policy, model.dtype, model.device, **rounded),
        )
        for name, policy in policies.items()
    }
    if not PartialState().is_main_process:
        return
    lines = [
        report_line(name, log, settings=run_settings(policies[name], model.dtype, model.device, **rounded))
        for name, log in logs.items()
    ]
    gain = difference(logs[names[-1]], logs[names[0]])
    table = f"{markdown_table(lines)}\n\nBLEU at {names[-1]} minus {names[0]}: {gain}, with its 95% interval."
    done = (read_record(Path(folder)) or {}).get("done")
    if done:
        table += f"\n\n{training_sentence(done)}"
    write_text(output_dir / "results.md", table + "\n")
    curves = by_kind(lines) if args.eval_policy else {"SimulMask": lines}
    plot_curves(output_dir / "quality_latency.png", curves, f"{processor.source_lang}-{processor.target_lang}")
    if folder == str(output_dir):
        write_model_card(output_dir, lines)
    print(
        f"\n{table}\n\nWritten: {output_dir / 'results.md'}, {output_dir / 'quality_latency.png'}, logs/*/instances.log"
    )


def show_stream(model, processor, pair: Pair, policy: WaitKPolicy) -> None:
    """Stream one sentence, showing for each word what had been read when it was written."""
    words = processor.split(pair.source)
    print(f"\nsource:    {pair.source}\nreference: {pair.target}\n{policy} writes")
    for word in translate_stream(model, processor, words, policy):
        print(f"  {word.text:<24} {word.elapsed_ms:6.0f} ms   read: {' '.join(words[: word.delay])}", flush=True)


__all__ = ["SimulArguments", "main"]
