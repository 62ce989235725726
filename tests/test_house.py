# SPDX-License-Identifier: Apache-2.0
"""What may import what: `models/` is copied beside saved weights, file by file, and must stand alone there."""

import ast
import sys
from pathlib import Path

import pytest

import transformers_simul

MODELS = Path(transformers_simul.__file__).parent / "models"
ALLOWED = {"torch", "transformers", "huggingface_hub"}


def imports(tree):
    """`(level, module)` of every import, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.py")), ids=lambda path: path.name)
def test_files_that_travel_import_torch_transformers_and_siblings(path):
    for level, module in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if level:
            # Transformers finds siblings by `from .name import`, and flattens what it finds.
            assert level == 1, (path.name, module)
            assert module, (path.name, module)
            assert (MODELS / f"{module}.py").is_file(), (path.name, module)
        else:
            assert module.split(".")[0] in ALLOWED | sys.stdlib_module_names, (path.name, module)


def test_models_is_one_flat_folder():
    assert [path.name for path in MODELS.iterdir() if path.is_dir() and path.name != "__pycache__"] == []
