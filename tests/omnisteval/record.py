# SPDX-License-Identifier: Apache-2.0
"""Writes what tests/test_longform.py compares with: logs of made-up recordings, what OmniSTEval 0.1.10 prints for them, and
simulstream 1.0.0's StreamLAAL. In an environment with transformers_simul[longform] and with simulstream, which
`pip install --no-deps simulstream==1.0.0 librosa lazy_loader pycountry` adds: `python tests/omnisteval/record.py`"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers_simul.evaluation.instances import SpeechInstance, write_instances
from transformers_simul.text_files import write_text

HERE = Path(__file__).parent
WORDS = (
    "Der Hund läuft, über die Wiese. Zwei Kinder sehen ihm zu; heute springt er 3,5 Meter weit! „Ja“, sagt sie".split()
)


def sentences(draw: random.Random) -> list[str]:
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 14))) for _ in range(draw.randint(3, 9))]


def spoil(draw: random.Random, words: list[str]) -> list[str]:
    """As a system would write it: words lost, changed, added, now and then a whole sentence's."""
    if draw.random() < 0.1:
        return []
    written = [draw.choice(WORDS) if draw.random() < 0.15 else word for word in words if draw.random() > 0.15]
    return written + draw.choices(WORDS, k=draw.choice([0, 0, 0, 2, 9]))


def recordings(seed: int) -> tuple[list[SpeechInstance], list[dict], list[str]]:
    """Logs, segments and references of some recordings."""
    draw, logs, segments, references = random.Random(seed), [], [], []
    for index in range(4):
        at_ms, delays, elapsed, prediction, work_ms = 0.0, [], [], [], 0.0
        texts = sentences(draw)
        for text in texts:
            start_ms, duration_ms = at_ms + draw.uniform(0, 900), draw.uniform(200, 600) * len(text.split())
            segments.append(
                {
                    "duration": round(duration_ms / 1000, 3),
                    "offset": round(start_ms / 1000, 3),
                    "wav": f"talk{index}.wav",
                }
            )
            words = spoil(draw, text.split())
            lag_ms = draw.uniform(300, 4000)
            for number, word in enumerate(words, start=1):
                due_ms = start_ms + duration_ms * number / len(words) + lag_ms
                delays.append(round(max(due_ms, delays[-1] if delays else 0.0), 3))
                work_ms += draw.uniform(5, 80)
                elapsed.append(round(max(delays[-1] + work_ms, elapsed[-1] if elapsed else 0.0), 3))
                prediction.append(word)
            at_ms = start_ms + duration_ms
        references += texts
        end_ms = round(at_ms + 500, 3)
        delays = [min(delay, end_ms) for delay in delays]
        text = " ".join(texts)
        logs.append(
            SpeechInstance(
                index, " ".join(prediction), delays, elapsed, len(prediction), text, f"talk{index}.wav", end_ms
            )
        )
    return logs, segments, references


def omnisteval(command: str, folder: Path, *flags: str) -> dict[str, float]:
    output = folder / "scores"
    program = "from omnisteval.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, command, *flags, "--output_folder", str(output)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    (path,) = output.glob("*.tsv")
    with open(path, encoding="utf-8") as file:
        rows = [*csv.reader(file, delimiter="\t")]
    path.unlink()
    return {name: float(value) for name, value in rows[1:] if value not in ("YES", "NO")}


def stream_laal(logs: list[SpeechInstance], segments: list[dict], references: list[str]) -> dict[str, float]:
    """In milliseconds."""
    from simulstream.metrics.readers import OutputWithDelays, ReferenceSentenceDefinition
    from simulstream.metrics.scorers.latency import LatencyScoringSample
    from simulstream.metrics.scorers.latency.stream_laal import StreamLaal

    samples = []
    for log in logs:
        said = [
            ReferenceSentenceDefinition(text, 1000 * each["offset"], 1000 * each["duration"])
            for each, text in zip(segments, references, strict=True)
            if each["wav"] == log.source
        ]
        written = OutputWithDelays(log.prediction, log.delays, log.elapsed)
        samples.append(LatencyScoringSample(log.source, written, said))
    score = StreamLaal(argparse.Namespace(latency_unit="word")).score(samples)
    return {"StreamLAAL": score.ideal_latency, "StreamLAAL_CA": score.computational_aware_latency}


def main() -> None:
    for seed in range(3):
        logs, segments, references = recordings(seed)
        write_instances(HERE / f"talks{seed}.log", logs)
        write_text(HERE / f"talks{seed}.yaml", "".join(f"- {json.dumps(each)}\n" for each in segments))
        write_text(HERE / f"talks{seed}.de", "".join(f"{text}\n" for text in references))
        with tempfile.TemporaryDirectory() as folder:
            level = ["--word_level"]
            long = [*level,
                "--speech_segmentation", str(HERE / f"talks{seed}.yaml"), "--ref_sentences_file",
                str(HERE / f"talks{seed}.de"), "--hypothesis_file", str(HERE / f"talks{seed}.log"),
                "--hypothesis_format", "jsonl",
            ]  # fmt: skip
            whole = Path(folder, "references")
            write_text(whole, "".join(f"{each.reference}\n" for each in logs))
            short = [*level, "--hypothesis_file", str(HERE / f"talks{seed}.log"), "--ref_sentences_file", str(whole)]
            figures = {
                "longform": omnisteval("longform", Path(folder), *long),
                "longform, de": omnisteval("longform", Path(folder), *long, "--lang", "de"),
                "shortform": omnisteval("shortform", Path(folder), *short),
            }
        figures["simulstream"] = stream_laal(logs, segments, references)
        write_text(HERE / f"talks{seed}.json", json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
