# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a Falcon for simultaneous translation, translate a test set while reading it, and stream sentences.

The flags are those of Transformers' run_translation.py where they mean the same; `--help` lists them all.
"""

import hashlib
import json
import logging
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoTokenizer,
    EarlyStoppingCallback,
    HfArgumentParser,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from transformers_simul import (
    MixturePolicy,
    OfflinePolicy,
    SimulFalconConfig,
    SimulFalconForCausalLM,
    SimulMaskDataCollator,
    SimulProcessor,
    WaitKPolicy,
    translate_stream,
)
from transformers_simul.corpora import Pair, load_home_assistant, read_pairs
from transformers_simul.evaluation.decode import translate_corpus
from transformers_simul.evaluation.instances import read_instances, write_instances, write_text
from transformers_simul.evaluation.report import difference_note, markdown_table, report_line
from transformers_simul.plots import plot_curves
from transformers_simul.processing_simul import FALCON_TEMPLATE
from transformers_simul.text_simul import split_words

FULL_SOURCE = "full source"


@dataclass
class ModelArguments:
    """What to train. Without `--model_name_or_path`, a small model from scratch, and a tokenizer for its corpus."""

    model_name_or_path: str | None = field(default=None, metadata={"help": "A Falcon with ALiBi, or a trained folder."})
    vocab_size: int = field(default=4000, metadata={"help": "From scratch: byte-level BPE."})
    hidden_size: int = field(default=256, metadata={"help": "From scratch."})
    num_hidden_layers: int = field(default=4, metadata={"help": "From scratch."})
    num_attention_heads: int = field(default=8, metadata={"help": "From scratch."})
    dropout: float = field(default=0.0, metadata={"help": "Of hidden states and attention."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Of target tokens (the Trainer's must stay 0)."})


@dataclass
class DataArguments:
    """Where the sentence pairs come from."""

    source_lang: str = field(default="en", metadata={"help": "Code, and the column's name in files."})
    target_lang: str = field(default="de", metadata={"help": "Code, and the column's name in files."})
    dataset_name: str | None = field(default=None, metadata={"help": "'home_assistant', or a data set of the hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Its revision; pin it."})
    train_file: list[str] = field(default_factory=list, metadata={"help": "One table, or two text files."})
    validation_file: list[str] = field(default_factory=list, metadata={"help": "As --train_file."})
    test_file: list[str] = field(default_factory=list, metadata={"help": "As --train_file."})
    template: str = field(default=FALCON_TEMPLATE, metadata={"help": "Prompt with {source} and {target}."})
    max_length: int = field(default=512, metadata={"help": "Longest row in tokens; longer pairs are left out."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Use only so many training pairs."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Use only so many test sentences."})


@dataclass
class SimulArguments:
    """When to READ and WRITE."""

    wait_k: list[str] = field(
        default_factory=lambda: ["3"],
        metadata={"help": "Training policy: one k, several to draw from per example, or 'full'."},
    )
    eval_wait_k: list[int] = field(
        default_factory=lambda: [1, 3, 5, 7], metadata={"help": "Policies to translate with."}
    )
    peek_rows: float = field(default=1.0, metadata={"help": "Share of peek rows; 0 is the paper's plain form."})
    packing: bool = field(default=False, metadata={"help": "Lay several pairs into one row of --max_length."})
    stream_sentences: int = field(default=3, metadata={"help": "Test sentences to stream at the end."})
    max_train_minutes: float | None = field(default=None, metadata={"help": "Stop training after so long."})
    early_stopping_patience: int | None = field(default=None, metadata={"help": "Evaluations without progress."})
    predict_batch_size: int = field(default=32, metadata={"help": "Sentences translated side by side."})


class TimeBudget(TrainerCallback):
    """Stops training after so many minutes of this run, saving where it stands."""

    def __init__(self, minutes: float):
        self.minutes, self.started = minutes, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() - self.started > 60 * self.minutes:
            control.should_training_stop = control.should_save = True


def main() -> None:
    parser = HfArgumentParser((ModelArguments, DataArguments, SimulArguments, TrainingArguments))
    model_args, data_args, simul_args, training_args = parser.parse_args_into_dataclasses()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # The collator reads columns that forward() does not name.
    training_args.remove_unused_columns = False
    set_seed(training_args.seed)
    output_dir = Path(training_args.output_dir)
    check_writable(output_dir)

    splits = load_pairs(data_args, training_args)
    trained = training_record(model_args, data_args, simul_args, training_args, splits)
    if training_args.do_train and not is_trained(output_dir, trained):
        train(model_args, data_args, simul_args, training_args, splits, trained)
    folder = str(output_dir) if is_trained(output_dir, trained) else model_args.model_name_or_path
    if folder is None:
        raise ValueError("model_name_or_path must name a trained folder, or pass --do_train.")
    if not (training_args.do_eval or training_args.do_predict or simul_args.stream_sentences):
        return
    model = SimulFalconForCausalLM.from_pretrained(folder).to(training_args.device).eval()
    processor = SimulProcessor.from_pretrained(folder)
    if training_args.do_eval:
        evaluate(model, processor, data_args, simul_args, training_args, splits["validation"])
    test = splits["test"][: data_args.max_predict_samples]
    if training_args.do_predict:
        predict(model, processor, test, simul_args, output_dir, folder)
    for pair in test[: simul_args.stream_sentences]:
        show_stream(model, processor, pair, WaitKPolicy(min(simul_args.eval_wait_k, key=lambda k: abs(k - 3))))


def check_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"output_dir must be a folder that can be written, got {str(folder)!r}: {error}.") from error


def load_pairs(args: DataArguments, training_args: TrainingArguments) -> dict[str, list[Pair]]:
    """Training, validation and test pairs; every file is checked before anything is trained."""
    languages = (args.source_lang, args.target_lang)
    if args.dataset_name == "home_assistant":
        splits = split_pairs(load_home_assistant(*languages))
    elif args.dataset_name:
        data = load_dataset(args.dataset_name, args.dataset_config_name, revision=args.dataset_revision)
        splits = {
            name: [Pair(*(row["translation"][lang] for lang in languages)) for row in data[name]] for name in data
        }
    else:
        files = {"train": args.train_file, "validation": args.validation_file, "test": args.test_file}
        splits = {name: read_pairs(names, *languages) for name, names in files.items() if names}
    needed = {"train": training_args.do_train, "test": training_args.do_predict}
    needed["validation"] = training_args.do_eval or training_args.eval_strategy != "no"
    for name in (name for name, is_needed in needed.items() if is_needed and name not in splits):
        raise ValueError(f"{name}_file or dataset_name must give {name} pairs: the flags given need them.")
    splits = {"train": [], "validation": [], "test": []} | splits
    splits["train"] = splits["train"][: args.max_train_samples]
    return splits


def split_pairs(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """600 test and 150 validation pairs, drawn once and for all."""
    random.Random(0).shuffle(pairs)
    return {"test": pairs[:600], "validation": pairs[600:750], "train": pairs[750:]}


def training_record(model_args, data_args, simul_args, training_args, splits) -> dict:
    """What decides the trained weights: a finished run with the same record is reused."""
    data = hashlib.sha256(repr((splits["train"], splits["validation"])).encode()).hexdigest()
    names = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed", "weight_decay")
    return {
        "model": asdict(model_args),
        "data": data,
        "template": data_args.template,
        "languages": [data_args.source_lang, data_args.target_lang],
        "policy": simul_args.wait_k,
        "peek_rows": simul_args.peek_rows,
        "training": {name: getattr(training_args, name) for name in names},
    }


def is_trained(folder: Path, record: dict) -> bool:
    path = folder / "training.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == record


def train(model_args, data_args, simul_args, training_args, splits, record) -> None:
    processor, model = make_model(model_args, data_args, splits["train"])
    collator = make_collator(processor, data_args, simul_args, training_args)
    callbacks: list[TrainerCallback] = [collator]
    if simul_args.max_train_minutes is not None:
        callbacks.append(TimeBudget(simul_args.max_train_minutes))
    if simul_args.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(simul_args.early_stopping_patience))
    trainer = Trainer(
        model=model,
        args=training_args,
        data_collator=collator,
        train_dataset=encode(processor, splits["train"]),
        eval_dataset=encode(processor, splits["validation"]) if splits["validation"] else None,
        callbacks=callbacks,
    )
    checkpoint = training_args.resume_from_checkpoint or last_checkpoint(Path(training_args.output_dir))
    print(f"Training {model.num_parameters() / 1e6:.1f} M parameters on {len(splits['train'])} pairs", flush=True)
    if checkpoint:
        print(f"Resuming from {checkpoint}", flush=True)
    trainer.train(resume_from_checkpoint=checkpoint)
    if collator.dropped:
        print(f"{collator.dropped} times a pair longer than {data_args.max_length} tokens was left out")
    # Not trainer.save_model(): it adds a pickle of the training arguments.
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(training_args.output_dir)
    processor.save_pretrained(training_args.output_dir)
    write_text(Path(training_args.output_dir) / "training.json", json.dumps(record, indent=2))


def make_collator(processor, data_args, simul_args, training_args) -> SimulMaskDataCollator:
    return SimulMaskDataCollator(
        processor,
        training_policy(simul_args.wait_k),
        peek_rows=simul_args.peek_rows,
        max_length=data_args.max_length,
        too_long="drop",
        packing=simul_args.packing,
        seed=training_args.seed,
    )


def evaluate(model, processor, data_args, simul_args, training_args, pairs: list[Pair]) -> None:
    """Loss per target token on the validation pairs, under the training policy as its first epoch draws it."""
    collator = make_collator(processor, data_args, simul_args, training_args)
    collator.set_epoch(0)
    trainer = Trainer(model, training_args, data_collator=collator, eval_dataset=encode(processor, pairs))
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            print(f"{checkpoint} is incomplete and passed over")
            continue
        return str(checkpoint)
    return None


def training_policy(wait_k: list[str]):
    """One k, a mixture, or the whole source."""
    policies = [OfflinePolicy() if k == "full" else WaitKPolicy(int(k)) for k in wait_k]
    return policies[0] if len(policies) == 1 else MixturePolicy(policies)


def make_model(args: ModelArguments, data_args: DataArguments, pairs: list[Pair]):
    """Processor and model: a checkpoint's, or new ones."""
    languages = {"source_lang": data_args.source_lang, "target_lang": data_args.target_lang}
    if args.model_name_or_path:
        tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
        processor = SimulProcessor(tokenizer, template=data_args.template, **languages)
        model_type = AutoConfig.from_pretrained(args.model_name_or_path).model_type
        if model_type not in ("falcon", "simul_falcon"):
            raise ValueError(f"model_name_or_path must be a Falcon with ALiBi, got a checkpoint of {model_type!r}.")
        model = SimulFalconForCausalLM.from_pretrained(
            args.model_name_or_path,
            hidden_dropout=args.dropout,
            attention_dropout=args.dropout,
            label_smoothing=args.label_smoothing,
        )
        return processor, model
    processor = SimulProcessor(train_tokenizer(pairs, args.vocab_size), template=data_args.template, **languages)
    tokenizer = processor.tokenizer
    config = SimulFalconConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden_size,
        num_hidden_layers=args.num_hidden_layers,
        num_attention_heads=args.num_attention_heads,
        hidden_dropout=args.dropout,
        attention_dropout=args.dropout,
        label_smoothing=args.label_smoothing,
        alibi_rounding="exact",
        multi_query=False,
        parallel_attn=False,
        bias=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return processor, SimulFalconForCausalLM(config)


def train_tokenizer(pairs: list[Pair], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE for both languages of the training pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Every word stands behind a space, as in the rows.
    tokenizer.train_from_iterator((f" {' '.join(split_words(text))}" for pair in pairs for text in pair), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


def encode(processor: SimulProcessor, pairs: list[Pair]) -> Dataset:
    rows = []
    for pair in pairs:
        row = processor.encode_pair(*pair)
        rows.append(row | {"length": sum(map(len, row["source_ids"])) + sum(map(len, row["target_ids"]))})
    return Dataset.from_list(rows)


def predict(model, processor, test: list[Pair], args: SimulArguments, output_dir: Path, folder: str) -> None:
    """Translate the test set under each policy; finished logs of the same weights and sentences are reused."""
    policies = {f"k = {k}": WaitKPolicy(k) for k in args.eval_wait_k} | {FULL_SOURCE: OfflinePolicy()}
    sources, references = [pair.source for pair in test], [pair.target for pair in test]
    key = prediction_key(folder, test)
    logs = {}
    for name, policy in policies.items():
        path = output_dir / "logs" / name.replace(" ", "") / "instances.log"
        marker = path.with_suffix(".key")
        if path.is_file() and marker.is_file() and marker.read_text(encoding="utf-8") == key:
            logs[name] = read_instances(path)
            continue
        logs[name] = translate_corpus(model, processor, sources, references, policy, args.predict_batch_size)
        write_instances(path, logs[name])
        write_text(marker, key)
    lines = [report_line(name, log) for name, log in logs.items()]
    names = [name for name in policies if name != FULL_SOURCE]
    table = markdown_table(lines) + "\n\n" + difference_note(logs, names[-1], names[0])
    write_text(output_dir / "results.md", table + "\n")
    plot_curves(
        output_dir / "quality_latency.png", {"SimulMask": lines}, f"{processor.source_lang}-{processor.target_lang}"
    )
    print(
        f"\n{table}\n\nWritten: {output_dir / 'results.md'}, {output_dir / 'quality_latency.png'}, logs/*/instances.log"
    )


def prediction_key(folder: str, test: list[Pair]) -> str:
    digest = hashlib.sha256(repr(test).encode())
    weights = Path(folder) / "model.safetensors"
    digest.update(weights.read_bytes() if weights.is_file() else folder.encode())
    return digest.hexdigest()


def show_stream(model, processor, pair: Pair, policy: WaitKPolicy) -> None:
    """Stream one sentence, showing for each word what had been read when it was written."""
    words = processor.split(pair.source)
    print(f"\nsource:    {pair.source}\nreference: {pair.target}\n{policy} writes")
    for word in translate_stream(model, processor, words, policy):
        print(f"  {word.text:<24} {word.elapsed_ms:6.0f} ms   read: {' '.join(words[: word.delay])}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nInterrupted; the same command resumes from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sys.exit(f"error: {error}. What was written before is whole; the same command goes on from there.")
