# SPDX-License-Identifier: Apache-2.0
"""benchmarks/news_tables.py: the page of the news experiment, made of what its runs left."""

import importlib
from pathlib import Path

import pytest


def test_languages_that_were_not_run_keep_their_sections(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    news_tables = importlib.import_module("news_tables")
    page = (news_tables.DOCS / "news.md").read_text(encoding="utf-8")
    page = page.replace("\n## en-fr", "\n## en-de, an earlier run\n\nIts text.\n\n## en-fr")
    monkeypatch.setattr(news_tables, "DOCS", tmp_path)
    (tmp_path / "news.md").write_text(page, encoding="utf-8")
    (tmp_path / "output").mkdir()
    news_tables.main(tmp_path / "output")
    assert (tmp_path / "news.md").read_text(encoding="utf-8") == page
    (tmp_path / "news.md").write_text(page.partition("\n## en-fr")[0], encoding="utf-8")
    news_tables.main(tmp_path / "output")
    assert (tmp_path / "news.md").read_text(encoding="utf-8").endswith("\nNot run: en-fr.\n")
    with pytest.raises(SystemExit, match="OUTPUT_FOLDER must be a folder"):
        news_tables.main(tmp_path / "mistyped")
