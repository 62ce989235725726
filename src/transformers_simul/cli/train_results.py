# SPDX-License-Identifier: Apache-2.0
"""What `transformers-simul train` and `evaluate` show of a model: a test set's logs, table and picture, and streams."""

import functools
from pathlib import Path
from typing import Any

from accelerate import PartialState

from .. import OfflinePolicy, SimulProcessor, WaitKPolicy, translate_stream
from ..corpora import Pair
from ..evaluation.decode import finished_log, run_settings, translate_corpus, weights_key
from ..evaluation.report import FULL_SOURCE, by_kind, difference, log_name, markdown_table, report_line
from ..models.policies import Policy
from ..models.policy_names import policy_from_name
from ..publishing.model_card import training_sentence, write_model_card
from ..text_files import write_text
from ..training.record import read_record
from .train_flags import Flags, SimulArguments
from .train_texts import Texts


def translate_tests(model: Any, processor: SimulProcessor, flags: Flags, texts: Texts, folder: str) -> None:
    """Translate the test set, each target language by itself, and stream a few of its sentences.

    Args:
        model, processor: trained.
        flags (`Flags`): of the program.
        texts (`Texts`): with the test set.
        folder (`str`): of the model.
    """
    tests = list(zip(texts.splits["test"], texts.languages["test"], strict=True))
    for language in flags.data.target_langs or [flags.data.target_lang]:
        # A model for one language takes what it is given for that.
        chosen = processor.with_languages(target_lang=language) if len(processor.target_langs) > 1 else processor
        test = [pair for pair, its in tests if its == language]
        if flags.program.do_predict:
            place = flags.output_dir / language if flags.data.target_langs else flags.output_dir
            _predict(model, chosen, test, flags.simul, place, folder)
        if not flags.program.process_index:
            for pair in test[: flags.simul.stream_sentences]:
                _show_stream(model, chosen, pair, WaitKPolicy(min(flags.simul.eval_wait_k, key=lambda k: abs(k - 3))))


def _predict(model, processor, test: list[Pair], args: SimulArguments, output_dir: Path, folder: str) -> None:
    """Translate the test set under each policy; finished logs of the same weights and sentences are reused."""
    # Before the work: it may be missing.
    from ..evaluation.plots import plot_curves

    names = [f"k = {k}" for k in args.eval_wait_k]
    policies: dict[str, Policy] = {name: WaitKPolicy(k) for name, k in zip(names, args.eval_wait_k, strict=True)}
    policies |= {name: policy_from_name(name) for name in args.eval_policy} | {FULL_SOURCE: OfflinePolicy()}
    # What the model lacks shows before hours of work.
    policies = {name: policy.for_model(model) for name, policy in policies.items()}
    sources, references = [pair.source for pair in test], [pair.target for pair in test]
    weights = {"weights": args.decoding_weights} if args.decoding_weights else {}
    logs = {
        name: finished_log(
            output_dir / "logs" / log_name(name) / "instances.log",
            # A name's defaults and the heads that a policy looks at change its output, not its name.
            weights_key(folder, test, repr(policy), *weights.values()),
            functools.partial(translate_corpus, model, processor, sources, references, policy, args.predict_batch_size),
            run_settings(policy, model.dtype, model.device, **weights),
        )
        for name, policy in policies.items()
    }
    if not PartialState().is_main_process:
        return
    lines = [
        report_line(name, log, settings=run_settings(policies[name], model.dtype, model.device, **weights))
        for name, log in logs.items()
    ]
    table = markdown_table(lines)
    if len({*names}) > 1:
        gain = difference(logs[names[-1]], logs[names[0]])
        table += f"\n\nBLEU at {names[-1]} minus {names[0]}: {gain}, with its 95% interval."
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


def _show_stream(model, processor, pair: Pair, policy: WaitKPolicy) -> None:
    """Stream one sentence, showing for each word what had been read when it was written."""
    words = processor.split(pair.source)
    print(f"\nsource:    {pair.source}\nreference: {pair.target}\n{policy} writes")
    for word in translate_stream(model, processor, words, policy):
        print(f"  {word.text:<24} {word.elapsed_ms:6.0f} ms   read: {' '.join(words[: word.delay])}", flush=True)


__all__ = ["translate_tests"]
