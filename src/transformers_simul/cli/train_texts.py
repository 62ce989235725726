# SPDX-License-Identifier: Apache-2.0
"""The pairs that `transformers-simul train` and `evaluate` work on."""

import hashlib
from dataclasses import dataclass
from typing import Any

from .. import SimulProcessor, join_documents
from ..corpora import Pair
from ..training import encode, load_languages, read_alignments
from .train_flags import Flags


@dataclass(frozen=True)
class Texts:
    """The text that is needed, by split.

    Attributes:
        splits (`dict[str, list[Pair]]`): pairs; none where a split is not needed.
        languages (`dict[str, list[str]]`): the target language of each pair.
        alignments (`dict[str, list[str]]`): of each pair, if the training policy needs them.
    """

    splits: dict[str, list[Pair]]
    languages: dict[str, list[str]]
    alignments: dict[str, list[str]]

    @classmethod
    def read(cls, flags: Flags) -> "Texts":
        """Read what the flags name.

        Raises:
            ValueError: for wrong data, or alignments that are missing or that nothing reads.
        """
        is_trained, is_tested = flags.program.do_train, flags.program.do_predict
        is_validated = flags.program.do_eval or flags.program.eval_strategy != "no"
        needed = {"train": is_trained, "test": is_tested, "validation": is_validated}
        # One process downloads, the others find it there.
        with flags.program.main_process_first(desc="reading the corpus"):
            splits, languages = load_languages(flags.data, [name for name, is_needed in needed.items() if is_needed])
        counts = {name: len(splits[name]) for name in ("train", "validation") if needed[name]}
        return cls(splits, languages, _read_alignments(flags, counts))

    def digests(self) -> dict[str, str]:
        """Return the hashes of the alignments, for the record of a training."""
        return {
            f"{split}_alignment": hashlib.sha256(repr(each).encode()).hexdigest()
            for split, each in self.alignments.items()
        }

    def dataset(self, processor: SimulProcessor, flags: Flags, split: str) -> Any:
        """The examples of a split: its pairs, or runs of them if they are to see each other."""
        pairs = self.splits[split]
        target_langs = self.languages[split] if flags.data.target_langs else None
        dataset = encode(processor, pairs, self.alignments.get(split), target_langs)
        if not flags.simul.context_sentences:
            return dataset
        # The pairs of each language are one text.
        documents = target_langs or [""] * len(pairs)
        with_document = ({**each, "document": name} for each, name in zip(dataset, documents, strict=True))
        return join_documents(with_document, flags.simul.run_sentences)


def _read_alignments(flags: Flags, counts: dict[str, int]) -> dict[str, list[str]]:
    """The alignments that the training policy needs of these splits, read before anything is trained."""
    files = {"train": flags.data.train_alignment, "validation": flags.data.validation_alignment}
    names = [name for name in flags.simul.wait_k if name.startswith("aligned")]
    if not names:
        if any(files.values()):
            raise ValueError("train_alignment and validation_alignment need --wait_k aligned, which alone reads them.")
        return {}
    if flags.data.concatenate != 1:
        raise ValueError(f"concatenate must be 1 with --wait_k {names[0]}, got {flags.data.concatenate}.")
    found = {}
    for split, count in counts.items():
        file = files[split]
        if not file:
            raise ValueError(
                f"{split}_alignment must be given with --wait_k {names[0]}: transformers-simul align writes it."
            )
        found[split] = read_alignments(file, count)
    return found


__all__ = ["Texts"]
