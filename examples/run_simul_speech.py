# SPDX-License-Identifier: Apache-2.0
"""Does SimulMask carry over to speech? Trains an encoder before a language model (a new one, or that of
`--model_name_or_path`) on speech (spoken by espeak-ng unless there is some), once under SimulMask and once offline, and
a text model for a cascade; translates by wait-k in chunks; writes a table, curves and paired intervals.

`python examples/run_simul_speech.py --output_dir output/speech --train_file train.en train.de \\
  --test_file test.en test.de`

Interrupted, the same command goes on; what is finished is not run again. See docs/speech-units.md.
"""

from pathlib import Path

from transformers_simul import SimulProcessor
from transformers_simul.auto import simul_config
from transformers_simul.cli.loading import find_checkpoint
from transformers_simul.corpora import Pair
from transformers_simul.research.speech import SpeechArguments, SpeechExperiment, write_speech_report
from transformers_simul.research.speech.data import find_or_speak
from transformers_simul.training import (
    DataArguments,
    ModelArguments,
    ProgramArguments,
    check_writable,
    load_pairs,
    parse_flags,
    run_program,
)


def check_folders(arguments: SpeechArguments, model: ModelArguments) -> None:
    """Fail for a model that cannot be one of text, or a flag for text alone, before anything is spoken or trained."""
    if model.new_vocabulary:
        raise ValueError("new_vocabulary is for text alone: train the language model with it before.")
    names = {"model_name_or_path": model.model_name_or_path, "cascade_model": arguments.cascade_model}
    for name, value in names.items():
        if value:
            find_checkpoint(value, name)
            if hasattr(simul_config(value)[0], "audio_config"):
                raise ValueError(f"{name} must be a model of text, got {value!r}, which is one of speech.")
    if arguments.cascade_model:
        # A stock model has none.
        SimulProcessor.from_pretrained(arguments.cascade_model)


def main() -> None:
    kinds = (SpeechArguments, ModelArguments, DataArguments, ProgramArguments)
    arguments, model, data, training = parse_flags(kinds, description=__doc__)
    check_folders(arguments, model)
    output = Path(training.output_dir)
    check_writable(output)
    has_text = bool(data.dataset_name or data.train_file or data.test_file)
    pairs: dict[str, list[Pair]] = load_pairs(data) if has_text else {"train": [], "test": []}
    folder = Path(arguments.speech_dir or output / "speech")
    found = {
        part: find_or_speak(folder, split, pairs[part], data, arguments.noisy, training.seed + offset, arguments.voices)
        for part, split, offset in (("train", arguments.train_split, 0), ("test", arguments.test_split, 1_000_000))
    }
    experiment = SpeechExperiment(
        output,
        found["train"][: data.max_train_samples],
        found["test"][: data.max_predict_samples],
        arguments,
        data,
        model,
        training,
    )
    experiment.train()
    print(write_speech_report(experiment, experiment.translate(), experiment.count_flops()))


if __name__ == "__main__":
    run_program(main)
