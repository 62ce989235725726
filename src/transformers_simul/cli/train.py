# SPDX-License-Identifier: Apache-2.0
"""The program behind `transformers-simul train` and `evaluate` and examples/run_simul_translation.py: fine-tune a
language model for simultaneous translation, translate a test set while reading it, and stream sentences.

The flags are those of Transformers' run_translation.py where they mean the same; `--help` lists them all.
"""

from collections.abc import Sequence
from typing import Any

from .. import AutoSimulModel, SimulMaskDataCollator, SimulProcessor
from ..models.decoding_weights import set_decoding_weights
from ..models.positions import check_context
from ..publishing.model_card import write_model_card
from ..training import (
    SimulTrainer,
    check_writable,
    drop_long_pairs,
    fine_tune,
    is_trained,
    make_model,
    make_processor,
    prepare_folder,
    training_policy,
    training_record,
)
from .train_flags import Flags, read_flags
from .train_results import translate_tests
from .train_texts import Texts


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        arguments (`Sequence[str]`, *optional*): the command line's unless told.

    Raises:
        ValueError: for wrong flags or wrong data, before anything is trained.
    """
    flags = read_flags(arguments)
    program, output_dir = flags.program, flags.output_dir
    check_writable(output_dir)
    texts = Texts.read(flags)
    record = training_record(
        flags.model,
        flags.data,
        program,
        texts.splits,
        policy=flags.simul.wait_k,
        **flags.decisions(),
        **texts.digests(),
    )
    minutes = flags.simul.max_train_minutes
    if program.do_train:
        with program.main_process_first(desc="looking at the output folder"):
            starts_anew = program.overwrite_output_dir and program.process_index == 0
            has_work = prepare_folder(output_dir, record, minutes, starts_anew)
        if has_work:
            train(flags, texts, record)
        elif program.process_index == 0:
            print(f"{output_dir} holds this training, finished before: nothing is trained.", flush=True)
    folder = str(output_dir) if is_trained(output_dir, record, minutes) else flags.model.model_name_or_path
    if folder is None:
        raise ValueError("model_name_or_path must name a trained folder, or pass --do_train.")
    if not (program.do_eval or program.do_predict or flags.simul.stream_sentences):
        return
    model = AutoSimulModel.from_pretrained(folder).to(program.device).eval()
    processor = SimulProcessor.from_pretrained(folder)
    if program.do_eval:
        evaluate(model, processor, flags, texts)
    if flags.simul.decoding_weights is not None:
        set_decoding_weights(model, flags.simul.decoding_weights)
    translate_tests(model, processor, flags, texts, folder)
    if flags.data.target_langs and folder == str(output_dir) and not program.process_index:
        write_model_card(output_dir)


def train(flags: Flags, texts: Texts, record: dict[str, Any]) -> None:
    """Train, and save the model in the output folder."""
    processor = make_processor(flags.model, flags.data, texts.splits["train"])
    data = {
        split: texts.dataset(processor, flags, split) if texts.splits[split] else None
        for split in ("train", "validation")
    }
    model = make_model(flags.model, processor, seed=flags.program.seed)
    if flags.simul.context_sentences:
        check_context(model.config)
    fine_tune(
        model,
        processor,
        make_collator(processor, flags),
        data["train"],
        data["validation"],
        flags.program,
        record,
        wait_k=usual_k(flags.simul.wait_k),
        max_minutes=flags.simul.max_train_minutes,
        patience=flags.simul.early_stopping_patience,
    )


def usual_k(names: Sequence[str]) -> int | None:
    """The middle of training's k, for `generate()` without a policy; None if it only saw full sources."""
    trained = sorted(int(name) for name in names if name.isdigit())
    return trained[len(trained) // 2] if trained else None


def make_collator(processor: SimulProcessor, flags: Flags) -> SimulMaskDataCollator:
    """Make the collator of the rows that training and evaluation see."""
    return SimulMaskDataCollator(
        processor,
        training_policy(flags.simul.wait_k),
        peek_rows=flags.simul.peek_rows,
        max_length=flags.data.max_length,
        too_long="drop",
        packing=flags.simul.packing,
        pad_to_multiple_of=flags.data.pad_to_multiple_of,
        seed=flags.program.seed,
        context_sentences=flags.simul.context_sentences,
    )


def evaluate(model: Any, processor: SimulProcessor, flags: Flags, texts: Texts) -> None:
    """Print the loss per target token on the validation pairs, under the training policy as its first epoch draws it,
    and save it as `eval_results.json` in the output folder.

    Args:
        model (`PreTrainedModel`): to evaluate.
        processor (`SimulProcessor`): the model's.
        flags (`Flags`): of the program.
        texts (`Texts`): with the validation pairs.
    """
    collator = make_collator(processor, flags)
    collator.set_epoch(0)
    dataset, _ = drop_long_pairs(texts.dataset(processor, flags, "validation"), collator, "validation")
    trainer = SimulTrainer(model, flags.program, data_collator=collator, eval_dataset=dataset)
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)


__all__ = ["main"]
