# SPDX-License-Identifier: Apache-2.0
"""Commands that take policies by name: evaluate, mask, plot."""

import json
import shutil

import pytest

from helpers import make_model, make_processor
from transformers_simul import AutoSimulModel, policy_from_name
from transformers_simul.cli import main
from transformers_simul.cli.train import main as program
from transformers_simul.evaluation import plots, read_instances
from transformers_simul.evaluation.report import by_kind, folder_lines
from transformers_simul.models.policy_names import named

SENTENCES = ["a dog runs over the green meadow", "two children watch him jumping", "a dog", "him jumping high today"]
NAMES = ["confidence:0.05,max=4", "learned:0.01", "alignatt-1:min=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, processor = tmp_path_factory.mktemp("model"), make_processor()
    model = make_model(processor)
    model.generation_config.alignment_heads = [[0, 1], [1, 2]]
    model.save_pretrained(path)
    processor.save_pretrained(path)
    for name in ("en", "de"):
        (path / f"test.{name}").write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    return path


def evaluate(folder, output, *flags):
    program(
        f"--model_name_or_path {folder} --test_file {folder}/test.en {folder}/test.de --output_dir {output} "
        "--do_predict --eval_wait_k 1 3 --stream_sentences 0 --report_to none --use_cpu --disable_tqdm true".split()
        + list(flags)
    )


def test_evaluate_draws_a_curve_for_each_kind_of_policy(folder, tmp_path, monkeypatch, capsys):
    drawn = {}
    monkeypatch.setattr(plots, "plot_curves", lambda path, curves, *args: drawn.update(curves))
    evaluate(folder, tmp_path, "--policy", *NAMES)
    table = (tmp_path / "results.md").read_text()
    assert all(f"| {name} |" in table for name in ("k = 1", "k = 3", *NAMES, "full source"))
    assert "BLEU at k = 3 minus k = 1" in table
    assert {kind: [line.name for line in lines] for kind, lines in drawn.items()} == {
        "wait-k": ["k = 1", "k = 3", "full source"],
        "confidence": NAMES[:1],
        "learned": NAMES[1:2],
        "alignatt": NAMES[2:],
    }
    logs = {path.name for path in (tmp_path / "logs").iterdir()}
    assert logs == {"k=1", "k=3", "fullsource", *(name.replace(":", "-") for name in NAMES)}
    # A log's folder names its policy, and its settings say it in full.
    model = AutoSimulModel.from_pretrained(folder)
    for name in NAMES:
        log = tmp_path / "logs" / name.replace(":", "-")
        assert repr(policy_from_name(log.name)) == repr(policy_from_name(name))
        assert json.loads((log / "settings.json").read_text())["policy"] == repr(named(name, model))
        assert len(read_instances(log / "instances.log")) == len(SENTENCES)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("logs/*/instances.log")}
    evaluate(folder, tmp_path, "--eval_policy", *NAMES)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    curves = by_kind(folder_lines(tmp_path / "logs"))
    assert [line.name for line in curves["wait-k"]] == ["k = 1", "k = 3", "full source"]
    assert set(curves) == {"wait-k", "confidence", "learned", "alignatt"}
    drawn.clear()
    assert main(["plot", f"ours={tmp_path / 'logs'}", "--output", str(tmp_path / "curves.png")]) == 0
    assert set(drawn) == {"ours, wait-k", "ours, confidence", "ours, learned", "ours, alignatt"}


def test_a_log_is_not_reused_where_its_name_means_something_else_now(folder, tmp_path):
    copy, output = tmp_path / "model", tmp_path / "out"
    shutil.copytree(folder, copy)
    evaluate(copy, output, "--policy", "alignatt-1:min=2")
    logs = {path: path.stat().st_mtime_ns for path in output.glob("logs/*/instances.log")}
    # As `transformers-simul heads` does, which leaves the weights as they are.
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"alignment_heads": [[1, 0]]}))
    evaluate(copy, output, "--policy", "alignatt-1:min=2")
    assert {path.parent.name for path in logs if path.stat().st_mtime_ns != logs[path]} == {"alignatt-1-min=2"}
    said = json.loads((output / "logs" / "alignatt-1-min=2" / "settings.json").read_text())["policy"]
    assert said == "AlignAttPolicy(words=1, heads=((1, 0),), least_lag=2, greatest_lag=9)"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["weit-3"], "policy must be one of"),
        (["confidence:1.5"], r"alpha must lie in \[0, 1\], got 1.5"),
        (["learned:0.5", "hold-0"], "words must be a whole number of at least 1"),
    ],
)
def test_a_wrong_name_is_said_before_anything_is_read(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        program(
            ["--model_name_or_path", str(tmp_path), "--output_dir", str(tmp_path), "--do_predict", "--policy", *names]
        )


def test_heads_that_are_missing_are_said_before_hours_of_work(folder, tmp_path, monkeypatch):
    model, processor = make_model(make_processor()), make_processor()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    for name in ("en", "de"):
        (tmp_path / "model" / f"test.{name}").write_text("a dog\n")
    with pytest.raises(ValueError, match="which transformers-simul heads writes"):
        evaluate(tmp_path / "model", tmp_path / "out", "--policy", "alignatt-2")
    assert not (tmp_path / "out" / "logs").exists()


def test_mask_takes_policies_by_name(folder, tmp_path, capsys):
    pair = ["--source", SENTENCES[0], "--target", "two children watch him"]
    for name in ("learned:0.01,max=4", "alignatt-1"):
        flags = ["--policy", name, "--output", str(tmp_path / "mask.png")]
        assert main(["mask", str(folder), *pair, *flags]) == 0
        shown = capsys.readouterr().out
        assert repr(policy_from_name(name)).rstrip(")").split("(")[0] in shown
        assert "differ from one masked training forward by at most" in shown
    assert main(["mask", str(folder), *pair, "--policy", "agree-2", "--output", str(tmp_path / "mask.png")]) == 1
    assert "policy must ask for no drafts" in capsys.readouterr().err
    assert main(["mask", str(folder), *pair, "--policy", "weit-2"]) == 1
