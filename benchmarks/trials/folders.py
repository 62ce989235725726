# SPDX-License-Identifier: Apache-2.0
"""A model's folder that is damaged or hostile, given to `translate` with text that begins with `y`: a plain error or a
translation, and nothing of the folder is run."""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers import make_model, make_processor
from transformers_simul.cli import main

from .trial import Case, Trial, in_child

# Without these there is nothing to translate with.
NEEDED = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json")
HUGE = (
    10**12,
    -1,
    0,
    1e400,
    None,
    "x" * 10_000,
    [],
    {},
    True,
    "{source_lang:>9999999999}",
    "../../../etc/passwd",
    "\ud800",
)
CODE = """import pathlib
pathlib.Path({mark!r}).write_text("ran")
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast, ProcessorMixin
class Evil(PreTrainedTokenizerFast): pass
"""


class Folder:
    """A copy that a case spoils; `must_fail` if a translation would be a lie."""

    def __init__(self, path: Path, mark: Path, draw: random.Random):
        self.path, self.mark, self.draw, self.must_fail = path, mark, draw, False
        self.files = sorted(file.name for file in path.iterdir())

    def truncate(self) -> None:
        name = self.draw.choice(self.files)
        size = (self.path / name).stat().st_size
        os.truncate(self.path / name, self.draw.choice((0, 1, 7, 8, size // 2, size - 1, self.draw.randrange(size))))
        self.must_fail = name in NEEDED

    def remove(self) -> None:
        name = self.draw.choice(self.files)
        (self.path / name).unlink()
        self.must_fail = name in NEEDED

    def garble(self) -> None:
        name = self.draw.choice(self.files)
        data = bytearray((self.path / name).read_bytes())
        for _ in range(self.draw.choice((1, 4, 64))):
            data[self.draw.randrange(min(len(data), self.draw.choice((200, len(data)))))] = self.draw.randrange(256)
        (self.path / name).write_bytes(data)

    def replace_by_folder(self) -> None:
        name = self.draw.choice(self.files)
        (self.path / name).unlink()
        (self.path / name).mkdir()
        self.must_fail = name in NEEDED

    def value(self) -> None:
        """One value of one JSON file is another."""
        name = self.draw.choice([each for each in self.files if each.endswith(".json")])
        whole = json.loads((self.path / name).read_text(encoding="utf-8"))
        node, keys = whole, list(whole)
        while keys:
            key = self.draw.choice(keys)
            inner = node[key]
            keys = (
                list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
            )
            if not keys or self.draw.random() < 0.5:
                node[key] = self.draw.choice(HUGE)
                break
            node = inner
        (self.path / name).write_text(json.dumps(whole), encoding="utf-8")

    def deep(self) -> None:
        name = self.draw.choice([each for each in self.files if each.endswith(".json")])
        (self.path / name).write_text("[" * 100_000, encoding="utf-8")
        self.must_fail = name in NEEDED

    def code(self) -> None:
        """Classes of the folder's own, named in every way that Transformers knows."""
        (self.path / "evil.py").write_text(CODE.format(mark=str(self.mark)), encoding="utf-8")
        names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor")
        names = self.draw.sample(names, self.draw.randint(1, len(names)))
        for file in self.draw.sample(
            ["config.json", "tokenizer_config.json", "processor_config.json"], self.draw.randint(1, 3)
        ):
            if (self.path / file).is_file():
                whole = json.loads((self.path / file).read_text(encoding="utf-8"))
                prefix = self.draw.choice(("", "../", "someone/model--", "/tmp/"))
                own: dict[str, Any] = dict.fromkeys(names, f"{prefix}evil.Evil")
                own |= (
                    {"AutoTokenizer": [f"{prefix}evil.Evil", f"{prefix}evil.Evil"]} if "AutoTokenizer" in names else {}
                )
                whole["auto_map"] = own
                if self.draw.random() < 0.5:
                    whole.pop("model_type", None)
                    whole["tokenizer_class"] = "Evil"
                (self.path / file).write_text(json.dumps(whole), encoding="utf-8")
        if self.draw.random() < 0.3:
            (self.path / "custom_generate").mkdir(exist_ok=True)
            shutil.copy(self.path / "evil.py", self.path / "custom_generate" / "generate.py")

    def pickle(self) -> None:
        """Weights as a pickle that runs code."""
        (self.path / "model.safetensors").unlink()
        body = f'cbuiltins\nexec\n(S\'open({str(self.mark)!r}, "w").write("ran")\'\ntR.'.encode()
        for name in ("pytorch_model.bin", "model.bin", "training_args.bin"):
            (self.path / name).write_bytes(body)
        self.must_fail = True

    def shards(self) -> None:
        """An index that points out of the folder."""
        (self.path / "model.safetensors").rename(self.path.parent / "outside.safetensors")
        target = self.draw.choice(("../outside.safetensors", "/etc/passwd", "none.safetensors", "", "."))
        index = {"metadata": {}, "weight_map": {"transformer.word_embeddings.weight": target}}
        (self.path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


WAYS: list[Callable[[Folder], None]] = [
    Folder.truncate, Folder.remove, Folder.garble, Folder.replace_by_folder, Folder.value, Folder.value, Folder.deep,
    Folder.code, Folder.code, Folder.pickle, Folder.shards,
]  # fmt: skip


@contextlib.contextmanager
def prepare() -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        processor = make_processor()
        make_model(processor).save_pretrained(root / "whole")
        processor.save_pretrained(root / "whole")
        # Here too, so that no case needs to import anything.
        (root / "text.en").write_text("a dog runs\n", encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["translate", str(root / "whole"), str(root / "text.en")]) == 0
        assert _translate(root / "whole").status == 0

        def case(draw: random.Random) -> None:
            room = root / "case"
            shutil.rmtree(room, ignore_errors=True)
            shutil.copytree(root / "whole", room / "folder")
            folder = Folder(room / "folder", room / "mark", draw)
            way = draw.choice(WAYS)
            way(folder)
            outcome = _translate(room / "folder")
            assert not folder.mark.exists(), f"{way.__name__}: code of the folder ran"
            outcome.check_plain()
            assert outcome.status in (0, 1), (way.__name__, outcome)
            assert outcome.status or not folder.must_fail, (way.__name__, sorted(os.listdir(folder.path)), outcome)
            assert not outcome.status or "error:" in outcome.output, (way.__name__, outcome)

        yield case


def _translate(folder: Path):
    # A stranger's sizes may ask for any memory; what they get is an error.
    return in_child(lambda: main(["translate", str(folder)]), b"y\na dog runs.\n", limit_s=40, memory_bytes=4 << 30)


TRIAL = Trial(
    "folders",
    "a damaged or hostile model folder gives one error line or a translation, and none of its code runs",
    prepare,
    {"smallest": 4, "small": 15, "full": 600},
    {"smallest": 60, "small": 15, "full": 300},
)
