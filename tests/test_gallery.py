# SPDX-License-Identifier: Apache-2.0
"""The gallery: short recipes with their outputs. That they run is tested with all other blocks, in test_docs*.py."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TOOL = runpy.run_path(str(DOCS / "tools" / "gallery.py"))
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")
RECIPES = TOOL["RECIPE"].findall(PAGE)


def test_every_recipe_is_short_and_most_show_what_they_write():
    assert len(RECIPES) > 8
    for language, code, _ in RECIPES:
        assert len(code.splitlines()) <= 15, code
        assert language in ("python", "bash")
    # Those without are a server, an hour's training, and an upload.
    silent = [code for _, code, output in RECIPES if not output.strip()]
    assert [code.split()[1] for code in silent] == ["serve", "corpus", "card"]


def test_outputs_that_no_model_decides_are_what_the_recipes_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code, output) = next((code, output) for _, code, output in RECIPES if "mine.log" in code)
    assert TOOL["run_python"](code, {}) == output


def test_the_tool_takes_no_answers_of_another_server_and_waits_for_none_that_has_ended(monkeypatch, tmp_path):
    names = TOOL["server"].__wrapped__.__globals__
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(names, "_is_ready", lambda: True)
    with pytest.raises(SystemExit, match="must be free, but a server answers there"), TOOL["server"]():
        pass
    # There is no model in this folder.
    monkeypatch.setitem(names, "_is_ready", lambda: False)
    with pytest.raises(SystemExit, match="has ended, with status 1"), TOOL["server"]():
        pass


def test_the_tool_writes_outputs_behind_recipes(monkeypatch):
    page = (
        "```python\nx = 2\nprint(x)\n```\n\n```text\nold\n```\n\ntext\n\n"
        "```bash\nfalse\n```\n\n"
        "```bash\nprintf 'one\\ntwo\\n'\n```\n\n```text\n```\n"
        "```python\nprint(x + 1, 'y' * 200)\n```\n\n```text\n```\n"
    )
    filled = TOOL["filled"](page)
    assert "```text\n2\n```\n\ntext" in filled
    assert "```text\none\ntwo\n```\n" in filled
    assert f"```text\n3 {'y' * 114} ...\n```\n" in filled
    assert TOOL["filled"](filled) == filled
    with pytest.raises(ZeroDivisionError):
        TOOL["filled"]("```python\n1 / 0\n```\n\n```text\n```\n")
