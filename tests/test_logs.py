# SPDX-License-Identifier: Apache-2.0
"""Logs of other tools, the score command, the `evaluate` metric and the hook for neural metrics."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from transformers_simul.cli import main
from transformers_simul.evaluation import Instance, write_instances
from transformers_simul.evaluation.logs import read_log, read_omnisteval, write_omnisteval, write_simulstream
from transformers_simul.evaluation.metric import SimulTranslation
from transformers_simul.evaluation.neural import read_neural_scores, write_neural_inputs

LOG = [
    Instance(0, "ein Hund läuft", [1, 2, 3], [120.0, 240.0, 300.0], 3, "ein Hund läuft dort", "a dog runs there", 4),
    Instance(1, "zwei Kinder", [2, 2], [100.0, 150.0], 2, "zwei Kinder", "two children", 2),
]
SOURCES, REFERENCES = [each.source for each in LOG], [each.reference for each in LOG]


@pytest.fixture
def path(tmp_path):
    write_instances(tmp_path / "instances.log", LOG)
    return str(tmp_path / "instances.log")


def test_omnisteval_round_trip(tmp_path):
    path = tmp_path / "instances.jsonl"
    write_omnisteval(path, LOG, words_per_second=2)
    fields = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert fields["emission_cu"] == [1, 2, 3]
    # 120 ms at two words a second is 0.24 words: at hand at 1.24; the next word at 2.24; the third at 3.12.
    assert fields["emission_ca"] == pytest.approx([1.24, 2.24, 3.12])
    for before, after in zip(LOG, read_log(path, words_per_second=2), strict=True):
        assert after.delays == before.delays
        assert after.elapsed == pytest.approx(before.elapsed)
        assert (after.prediction, after.reference, after.source_length) == (
            before.prediction,
            before.reference,
            before.source_length,
        )
    write_omnisteval(path, LOG)
    assert read_log(path)[0].elapsed == [0.0, 0.0, 0.0]
    path.write_text('{"index": 0, "prediction": "a", "emission_cu": [2], "emission_ca": [1]}\n')
    with pytest.raises(ValueError, match="emission_ca must not be before emission_cu"):
        read_omnisteval(path)
    for rate in (0, -1):
        with pytest.raises(ValueError, match="words_per_second must be positive"):
            read_omnisteval(path, rate)
        with pytest.raises(ValueError, match="words_per_second must be positive"):
            write_simulstream(path, LOG, rate)
    path.write_text('{"emission_cu": [1]}\n')
    with pytest.raises(ValueError, match="line 1 of .* must be an OmniSTEval instance"):
        read_omnisteval(path)


def test_simulstream_round_trip(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_simulstream(path, LOG, words_per_second=2.5)
    first = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:2]]
    assert first[0] == {"id": 0, "metadata": {"wav_name": "0"}}
    assert first[1]["generated_tokens"] == ["ein"]
    assert first[1]["total_audio_processed"] == pytest.approx(0.4)
    assert first[1]["computation_time"] == pytest.approx(0.12)
    back = read_log(path, 2.5, SOURCES, REFERENCES)
    assert [each.delays for each in back] == [each.delays for each in LOG]
    assert [each.prediction for each in back] == [each.prediction for each in LOG]
    assert back[0].elapsed == pytest.approx(LOG[0].elapsed)
    with pytest.raises(ValueError, match="one line per sentence of the log, 2"):
        read_log(path, 2.5)
    with pytest.raises(ValueError, match="words_per_second must be given for .*metrics.jsonl', simulstream's log"):
        read_log(path, sources=SOURCES, references=REFERENCES)
    good = path.read_text()
    for wrong in ('{"id": 9, "generated_tokens": ["a"], "total_audio_processed": 1, "computation_time": 0}\n',
                  '{"id": 0, "generated_tokens": ["a"]}\n'):  # fmt: skip
        path.write_text(good + wrong)
        with pytest.raises(ValueError, match="line 8 of .* must be of simulstream's log"):
            read_log(path, 2.5, SOURCES, REFERENCES)
    lines = good.replace('"deleted_tokens": []', '"deleted_tokens": ["x"]')
    path.write_text(lines)
    with pytest.raises(ValueError, match="must not delete tokens"):
        read_log(path, 2.5, SOURCES, REFERENCES)


@pytest.mark.parametrize(("text", "message"), [("", "at least one line"), ("[1]\n", "JSON object"), ("x\n", "JSON")])
def test_unreadable_logs(tmp_path, text, message):
    (tmp_path / "log").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_log(tmp_path / "log")


def test_score_prints_one_json_object(path, capsys):
    assert main(["score", path, "--json", "--bootstrap", "10"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores) == ["AL", "LAAL", "AP", "DAL", "ATD", "BLEU", "chrF", "chrF++", "TER"]
    assert scores["AP"] == pytest.approx((6 / 16 + 4 / 4) / 2)
    assert main(["score", path, "--json", "--bootstrap", "10", "--words-per-second", "3"]) == 0
    aware = json.loads(capsys.readouterr().out)
    assert aware["AL_CA"] > aware["AL"] == scores["AL"]
    assert aware["ATD_CA"] > aware["ATD"]


def test_score_prints_a_table_with_signatures(path, capsys, tmp_path):
    (tmp_path / "settings.json").write_text('{"policy": "WaitKPolicy(k=1)"}')
    assert main(["score", path, "--bootstrap", "10", "--unit", "char"]) == 0
    table = capsys.readouterr().out
    assert "unit:char|reflen:char|policy:WaitKPolicy(k=1)|data:" in table
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in table


def test_score_without_references_gives_latency_only(tmp_path, capsys):
    write_instances(tmp_path / "log", [Instance(0, "ein Hund", [1, 2], [1.0, 2.0], 2, "", "a dog", 2)])
    assert main(["score", str(tmp_path / "log"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["AL", "LAAL", "AP", "DAL", "ATD"]
    (tmp_path / "refs").write_text("ein Hund\n")
    assert main(["score", str(tmp_path / "log"), "--json", "--references", str(tmp_path / "refs")]) == 0
    assert "BLEU" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["none.log"], "No such file"),
        (["{log}", "--words-per-second", "0"], "must be positive"),
        (["{log}", "--words-per-second", "nan"], "must be positive"),
        (["{log}", "--words-per-second", "inf"], "must be positive"),
        (["{log}", "--unit", "spm", "--spm-model", "{settings}"], "must be a SentencePiece model"),
        (["{log}", "--unit", "spm"], "spm_model must be given"),
        (["{log}", "--bootstrap", "0"], "at least 1"),
        (["{log}", "--bootstrap", "1000000000"], "at most 100000"),
        (["{log}", "--tokenize", "14a"], "tokenize must be one of ['13a',"),
        (["{log}", "--references", "{settings}"], "references must hold one line per sentence, 2, got 1"),
    ],
)
def test_score_says_what_is_wrong(path, flags, message, capsys):
    settings = Path(path).with_name("settings.json")
    settings.write_text("{}\n")
    assert main(["score", *(flag.replace("{log}", path).replace("{settings}", str(settings)) for flag in flags)]) == 1
    assert message in capsys.readouterr().err


def test_the_program_helps_and_refuses_wrong_flags(path):
    done = subprocess.run(
        [sys.executable, "-m", "transformers_simul.cli", "score", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "examples:" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "transformers_simul.cli", "score", path, "--wrong"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 2


def test_evaluate_api_without_network():
    metric = SimulTranslation()
    for each in LOG:
        metric.add(
            prediction=each.prediction,
            reference=each.reference,
            delays=each.delays,
            source_length=each.source_length,
        )
    scores = metric.compute()
    # By hand: three words that lag 1 each on equal lengths; and 2, the whole source, at the second's first word.
    assert scores["AL"] == pytest.approx((1 + 2) / 2)
    assert set(scores) == {"AL", "LAAL", "AP", "DAL", "ATD", "BLEU", "chrF", "chrF++", "TER"}


def test_neural_hook(tmp_path, path, capsys):
    paths = write_neural_inputs(tmp_path, LOG)
    assert paths[1].read_text(encoding="utf-8") == "ein Hund läuft\nzwei Kinder\n"
    scores = tmp_path / "scores.json"
    rows = [{"src": each.source, "mt": each.prediction, "ref": each.reference, "COMET": 0.8} for each in LOG]
    scores.write_text(json.dumps({"predictions.txt": rows}))
    assert read_neural_scores(scores, LOG).score == pytest.approx(0.8)
    assert main(["score", path, "--json", "--bootstrap", "5", "--neural-scores", str(scores)]) == 0
    assert json.loads(capsys.readouterr().out)["COMET"] == pytest.approx(0.8)
    rows[0]["mt"] = "another"
    scores.write_text(json.dumps({"predictions.txt": rows}))
    with pytest.raises(ValueError, match="must belong to the log's predictions"):
        read_neural_scores(scores, LOG)
    del rows[0]["COMET"]
    scores.write_text(json.dumps({"predictions.txt": rows}))
    with pytest.raises(ValueError, match="must hold 'COMET' for each sentence"):
        read_neural_scores(scores, LOG)
    rows[0] = {"COMET": 0.8}
    scores.write_text(json.dumps({"predictions.txt": rows}))
    with pytest.raises(ValueError, match="must hold 'mt' for each sentence"):
        read_neural_scores(scores, LOG)
    scores.write_text("a half\n")
    with pytest.raises(ValueError, match="must be JSON or one number a line"):
        read_neural_scores(scores, LOG)
    scores.write_text("0.5\n")
    with pytest.raises(ValueError, match="one number per sentence, 2"):
        read_neural_scores(scores, LOG)


def test_the_simuleval_agent_names_what_is_missing():
    with pytest.raises(ImportError, match="needs SimulEval 1.1.4"):
        importlib.import_module("transformers_simul.evaluation.simuleval_agent")


LINE = json.loads(json.dumps(vars(LOG[0])))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("delays", [1, 2, float("nan")], "each of delays must be a finite number that is not negative, got nan"),
        ("delays", [1, 2, float("inf")], "each of delays must be a finite number"),
        ("delays", [1, 2, 10**400], "each of delays must be a finite number"),
        ("delays", [-1, 2, 3], "each of delays must be a finite number"),
        ("delays", ["1", "2", "3"], "each of delays must be a finite number that is not negative, got '1'"),
        ("delays", [True, 2, 3], "each of delays must be a finite number"),
        ("delays", "123", "delays must be a list of numbers, got '123'"),
        ("delays", None, "delays must be a list of numbers"),
        ("elapsed", [1.0, float("nan"), 2.0], "each of elapsed must be a finite number"),
        ("elapsed", {}, "elapsed must be a list of numbers"),
        ("prediction", None, "prediction must be a string, got None"),
        ("prediction", ["ein"], "prediction must be a string"),
        ("reference", 3, "reference must be a string"),
        ("source", 3, "source must be a string"),
        ("source_length", "4", "source_length must be a finite number"),
        ("source_length", float("nan"), "source_length must be a finite number"),
        ("prediction_length", [3], "prediction_length must be a finite number"),
    ],
)
def test_a_mistyped_field_is_named(tmp_path, capsys, field, value, message):
    path = tmp_path / "instances.log"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {field: value}) + "\n")
    with pytest.raises(ValueError, match=f"line 2 of .*instances.log' must be an instance of a log: {message}"):
        read_log(path)
    assert main(["score", str(path)]) == 1
    assert message in capsys.readouterr().err


def test_a_log_without_references_may_say_so(tmp_path):
    path = tmp_path / "instances.log"
    path.write_text(json.dumps(LINE | {"reference": None}) + "\n")
    assert read_log(path)[0].reference == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"emission_cu": [float("nan")]},
        {"emission_cu": [float("inf")]},
        {"emission_cu": [-1]},
        {"emission_cu": ["1"]},
        {"emission_cu": 1},
        {"emission_ca": [float("nan")]},
        {"emission_ca": [float("inf")]},
        {"prediction": 3},
        {"source_length": None},
    ],
)
def test_wrong_omnisteval_fields_are_named(tmp_path, fields):
    path = tmp_path / "instances.jsonl"
    line = {"index": 0, "prediction": "a", "reference": "a", "source_length": 2, "emission_cu": [1]}
    path.write_text(json.dumps(line) + "\n" + json.dumps(line | fields) + "\n")
    with pytest.raises(ValueError, match="line 2 of .* must be an OmniSTEval instance"):
        read_omnisteval(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"total_audio_processed": float("nan")},
        {"total_audio_processed": float("inf")},
        {"total_audio_processed": -1},
        {"total_audio_processed": "1"},
        {"computation_time": float("nan")},
        {"computation_time": -1},
        {"generated_tokens": [1]},
        {"generated_tokens": 1},
        {"generated_tokens": "word"},
        {"id": []},
        {"metadata": {}},
    ],
)
def test_wrong_simulstream_fields_are_named(tmp_path, fields):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"id": 0, "metadata": {}},
        {"id": 0, "generated_tokens": ["a"], "total_audio_processed": 1, "computation_time": 0} | fields,
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="line 2 of .* must be of simulstream's log"):
        read_log(path, 1.0, ["x"], ["y"])


def test_an_omnisteval_line_that_lacks_times_is_named(tmp_path):
    line = {
        "index": 0,
        "prediction": "a b",
        "emission_cu": [1, 2],
        "emission_ca": [],
        "reference": "a",
        "source_length": 2,
    }
    (tmp_path / "log").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="line 1 of .* must be an OmniSTEval instance"):
        read_omnisteval(tmp_path / "log")


def test_references_for_some_sentences_alone_are_an_error(path, tmp_path, capsys):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    (tmp_path / "references").write_text("\n" + "a reference\n" * (len(lines) - 1))
    assert main(["score", str(path), "--references", str(tmp_path / "references")]) == 1
    assert f"must all have references, or none, but 1 of {len(lines)} have none" in capsys.readouterr().err


@pytest.mark.parametrize("settings", ["{", "[1]", "[" * 100_000])
def test_damaged_settings_are_named(path, settings, capsys):
    Path(path).with_name("settings.json").write_text(settings)
    assert main(["score", path]) == 1
    assert "settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nan\n0.5\n", "must be finite numbers"),
        ("{", "must be JSON"),
        ("{}", "must hold a list of sentences"),
        ('{"x": [1, 2]}', "must hold a list of sentences"),
        ('{"x": {"a": 1}}', "must hold a list of sentences"),
    ],
)
def test_wrong_neural_scores_are_named(tmp_path, text, message):
    (tmp_path / "scores").write_text(text)
    with pytest.raises(ValueError, match=f"scores.* {message}"):
        read_neural_scores(tmp_path / "scores", LOG)


def test_score_says_how_many_outputs_stopped_short(tmp_path, capsys):
    short = Instance(2, "ein", [1], [1.0], 1, "", " ".join("x" * 9), 9)
    stopped = Instance(3, "ein Hund", [1, 2], [1.0, 2.0], 2, "", " ".join("x" * 40), 40)
    write_instances(tmp_path / "log", [short, stopped])
    assert main(["score", str(tmp_path / "log")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 sentences; 1 of them ended so long before their source that their LAAL is negative\n")
