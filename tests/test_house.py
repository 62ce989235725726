# SPDX-License-Identifier: Apache-2.0
"""What may import what: `models/` is copied beside saved weights, file by file, and must stand alone there."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import transformers_simul

REPOSITORY = Path(__file__).resolve().parents[1]
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


def test_functions_are_short_enough_to_be_read_at_once():
    for path in MODELS.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                assert lines <= 60, f"{path.name}: {node.name} has {lines} lines without its docstring"


def house():
    """The tool that draws the house."""
    spec = importlib.util.spec_from_file_location("house", REPOSITORY / "docs" / "tools" / "house.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_drawing_shows_the_imports_and_these_run_in_one_direction():
    tool = house()
    expected = {f"{room} imports {other}" for room, other in tool.arrows(tool.read_rooms()).edges}
    drawn = set(re.findall(r"<title>(\S+ imports \S+)</title>", tool.PICTURE.read_text(encoding="utf-8")))
    assert drawn == expected, "run docs/tools/house.py"
    assert "cli/ imports training/" in drawn


def test_rooms_are_read_from_imports_of_any_form(tmp_path):
    tool = house()
    files = {
        "__init__.py": "from .models.one import One",
        "alone.py": "import json",
        "models/__init__.py": "",
        "models/one.py": "from .two import Two",
        "models/two.py": "import torch",
        "cli/__init__.py": "",
        "cli/main.py": "def run():\n    from .. import One\n    from ..alone import x\n    from . import other",
        "cli/other.py": "from ..models import one",
        "research/deep/main.py": "from ...cli.main import run\nfrom ...models.one import One",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    rooms = tool.read_rooms(tmp_path)
    assert rooms == {
        "alone.py": set(),
        "models/": set(),
        "cli/": {"models/", "alone.py"},
        "research/": {"cli/", "models/"},
    }
    # What another import implies is not drawn.
    assert set(tool.arrows(rooms).edges) == {("cli/", "models/"), ("cli/", "alone.py"), ("research/", "cli/")}
    with pytest.raises(ValueError, match="must not import one another in a circle"):
        tool.arrows(rooms | {"models/": {"research/"}})


def test_no_property_depends_on_the_speed_of_a_machine():
    assert settings().deadline is None
