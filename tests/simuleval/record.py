# SPDX-License-Identifier: Apache-2.0
"""Records what SimulEval 1.1.4 says of the logs beside this file; run by record.sh in SimulEval's environment."""

import json
import random
import sys
from argparse import Namespace
from pathlib import Path

import torch
from simuleval.evaluator.instance import LogInstance, TextToTextInstance
from simuleval.evaluator.scorers.latency_scorer import ALScorer, APScorer, ATDScorer, DALScorer, LAALScorer

HERE = Path(__file__).parent
SCORERS = {"AL": ALScorer, "LAAL": LAALScorer, "AP": APScorer, "DAL": DALScorer, "ATD": ATDScorer}


def random_log(sentences: int = 60) -> list[dict]:
    """Delays of all kinds: bursts, EOS far too early or late, one word, first delay at the source's end."""
    draw, log = random.Random(0), []
    for index in range(sentences):
        source, target, reference = (draw.randint(1, 14) for _ in range(3))
        delays = sorted(draw.randint(1, source) for _ in range(target))
        if index % 7 == 0:
            delays = [source] * target
        words = [f"w{number}" for number in range(target)]
        log.append(
            {
                "index": index,
                "prediction": " ".join(words),
                "delays": delays,
                "elapsed": [round(10.0 * (number + 1), 3) for number in range(target)],
                "prediction_length": target,
                "reference": " ".join(f"r{number}" for number in range(reference)),
                "source": " ".join(f"s{number}" for number in range(source)),
                "source_length": source,
            }
        )
    return log


def scores(log: list[dict]) -> dict[str, float]:
    """By SimulEval's own scorers on its own text instances (reading its text log back breaks its ATD)."""
    instances = {}
    for line in log:
        args = Namespace(eval_latency_unit="word")
        dataloader = {"source": line["source"].split(), "target": line["reference"], "tgt_lang": None}
        instance = TextToTextInstance(line["index"], {line["index"]: dataloader}, args)
        instance.source, instance.reference = line["source"].split(), line["reference"]
        instance.delays, instance.elapsed = line["delays"], line["elapsed"]
        instance.prediction_list = line["prediction"].split()
        instances[line["index"]] = instance
    return {name: scorer()(instances) for name, scorer in SCORERS.items()}


def speech_log(recordings: int = 40) -> list[dict]:
    """Milliseconds, as `listen --log` writes them: some words after the end of the recording, some recordings without."""
    draw, log = random.Random(2), []
    for index in range(recordings):
        length, target = draw.uniform(500, 20_000), draw.randint(0 if index % 9 == 0 else 1, 30)
        delays = sorted(round(min(length, draw.uniform(0, 1.2 * length)), 3) for _ in range(target))
        late, elapsed = 0.0, []
        for delay in delays:
            late = max(late, delay) + draw.uniform(0, 400)
            elapsed.append(round(late, 3))
        log.append(
            {
                "index": index,
                "prediction": " ".join(f"w{number}" for number in range(target)),
                "delays": delays,
                "elapsed": elapsed,
                "prediction_length": target,
                "reference": " ".join(f"r{number}" for number in range(draw.randint(1, 30))),
                "source": [f"{index}.wav", "samplerate: 16000 Hz", "channels: 1"],
                "source_length": round(length, 3),
            }
        )
    return log


def speech_scores(log: list[dict]) -> dict[str, float]:
    """By SimulEval's own scorers, as `simuleval --score-only --source-type speech --target-type text` reads the log."""
    instances = {line["index"]: LogInstance(json.dumps(line)) for line in log}
    names = ("AL", "LAAL", "AP", "DAL")
    return {
        name + suffix: SCORERS[name](computation_aware=bool(suffix))(instances)
        for suffix in ("", "_CA")
        for name in names
    }


def agent_log(*flags: str, policy: str) -> list[dict]:
    """A tiny random model through SimulEval's own program with our agent; it must equal our own decoding."""
    import subprocess
    import tempfile

    sys.path.insert(0, str(HERE.parent))
    from helpers import make_model, make_processor, random_sentence, teach
    from transformers_simul.models.policy_names import policy_from_name

    processor, draw = make_processor(), random.Random(1)
    model = teach(make_model(processor, initializer_range=0.02), processor, draw)
    sources = [random_sentence(draw, 3, 9) for _ in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model.save_pretrained(root / "model")
        processor.save_pretrained(root / "model")
        for name in ("source", "target"):
            (root / name).write_text("".join(text + "\n" for text in sources))
        subprocess.run(
            [
                "simuleval", "--agent-class", "transformers_simul.evaluation.simuleval_agent.SimulAgent", "--model",
                str(root / "model"), *flags, "--source", str(root / "source"), "--target",
                str(root / "target"), "--source-type", "text", "--target-type", "text", "--output", str(root / "log"),
                "--eval-latency-unit", "word",
            ],
            check=True,
        )  # fmt: skip
        lines = (root / "log" / "instances.log").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    for line, source in zip(log, sources, strict=True):
        with torch.no_grad():
            decided = {"policy": policy_from_name(policy), "return_dict_in_generate": True}
            output = model.generate(**processor(source=source), **decided)
        # A runaway row may be cut behind a lone space, a word that SimulEval does not count.
        pairs = zip(processor.words(output.words[0]), output.delays[0], strict=True)
        written = [(word, delay) for word, delay in pairs if word]
        assert list(zip(line["prediction"].split(), line["delays"], strict=True)) == written, (line, written)
    return log


if __name__ == "__main__":
    agent_log("--policy", "hold-1", policy="hold-1")
    for name, log, scored in (
        ("random", random_log(), scores),
        ("speech", speech_log(), speech_scores),
        ("agent", agent_log("--wait-k", "2", policy="wait-2"), scores),
    ):
        (HERE / f"{name}.log").write_text("".join(json.dumps(line) + "\n" for line in log))
        (HERE / f"{name}.json").write_text(json.dumps(scored(log), indent=2) + "\n")
        print(name, scored(log))
