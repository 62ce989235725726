# SPDX-License-Identifier: Apache-2.0
"""Runs our processor in simulstream 1.0.0's own program, on tones and a tiny random model: what it logs must be what `listen`
writes, word by word and delay by delay, and the StreamLAAL that simulstream prints must be what `score` prints. Writes the
log that tests/test_simulstream.py reads.

In an environment with transformers_simul[speech,longform], and with what
`pip install --no-deps simulstream==1.0.0 librosa lazy_loader pycountry` adds: `python tests/simulstream/record.py`"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers import make_model, make_processor  # noqa: E402
from speech_helpers import RATE, Loudness, say  # noqa: E402
from test_listen import Speaks, blocks_of  # noqa: E402
from transformers_simul import WaitKPolicy, cli  # noqa: E402
from transformers_simul.speech import transcribers, voice  # noqa: E402
from transformers_simul.speech.agreement import LocalAgreementRecogniser  # noqa: E402
from transformers_simul.speech.listening import Listener  # noqa: E402

CONFIG = """type: transformers_simul.speech.simulstream_processor.SimulstreamProcessor
model: {folder}
policy: wait-2
speech_chunk_size: 0.5
detokenizer_type: simuleval
latency_unit: word
"""


def infer(folder: Path) -> None:
    """simulstream_inference, with a recogniser of tones."""
    from simulstream import inference

    transcribers.make_transcriber = lambda name, language: Speaks()
    voice.SileroVoice = Loudness
    sys.argv = [
        "simulstream_inference", "--speech-processor-config", str(folder / "processor.yaml"), "--wav-list-file",
        str(folder / "talks.txt"), "--metrics-log-file", str(folder / "metrics.jsonl"), "--tgt-lang", "de",
    ]  # fmt: skip
    inference.cli_main()


def score(folder: Path, log: Path) -> float:
    """StreamLAAL in milliseconds, as simulstream prints it."""
    done = subprocess.run(
        [
            sys.executable, "-m", "simulstream.metrics.score_latency", "--eval-config", str(folder / "processor.yaml"),
            "--log-file", str(log), "--audio-definition", str(HERE / "talks.yaml"), "--reference",
            str(HERE / "talks.de"), "--scorer", "stream_laal",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return 1000 * float(re.search(r"ideal_latency=([0-9.]+)", done.stdout)[1])


def main() -> None:
    processor = make_processor(target_lang="de")
    model = make_model(processor)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        (folder / "processor.yaml").write_text(CONFIG.format(folder=folder))
        audio = {f"talk{number}": say([*range(6 + 6 * number)], 1.0) for number in range(2)}
        for name, samples in audio.items():
            soundfile.write(folder / f"{name}.wav", samples, RATE, subtype="PCM_16")
        (folder / "talks.txt").write_text("".join(f"{folder / name}.wav\n" for name in audio))
        infer(folder)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for number, name in enumerate(audio):
            samples = soundfile.read(folder / f"{name}.wav", dtype="float32")[0]
            listener = Listener(model, processor, LocalAgreementRecogniser(Speaks(), Loudness()), WaitKPolicy(2))
            expected = [
                (word.text, word.heard_s) for event in listener.listen(blocks_of(samples)) for word in event.target
            ]
            found = [
                (token, line["total_audio_processed"])
                for line in lines
                if line.get("id") == number and "generated_tokens" in line
                for token in line["generated_tokens"]
            ]
            assert [text for text, _ in found] == [text for text, _ in expected if text], (found, expected)
            assert all(
                abs(at - heard) < 0.51 for (_, at), (_, heard) in zip(found, [e for e in expected if e[0]], strict=True)
            )
        # Where this ran, and how fast, is nobody's business.
        for line in lines:
            line.pop("model_loading_time", None)
            if "metadata" in line:
                line["metadata"]["wav_name"] = Path(line["metadata"]["wav_name"]).name
            if "computation_time" in line:
                line["computation_time"] = 0.125
        log = HERE / "metrics.jsonl"
        log.write_text("".join(json.dumps(line) + "\n" for line in lines if line))
        segments, references = [], []
        for name, samples in audio.items():
            middle = len(samples) / RATE / 2
            segments += [{"wav": f"{name}.wav", "offset": start, "duration": middle} for start in (0.0, middle)]
            words = [
                token for line in lines if "generated_tokens" in line and line["id"] == list(audio).index(name)
                for token in line["generated_tokens"]
            ]  # fmt: skip
            references += [
                " ".join(words[: len(words) // 2]) or "nothing",
                " ".join(words[len(words) // 2 :]) or "nothing",
            ]
        (HERE / "talks.yaml").write_text("".join(f"- {json.dumps(each)}\n" for each in segments))
        (HERE / "talks.de").write_text("".join(f"{text}\n" for text in references))
        (HERE / "scores.json").write_text(json.dumps({"StreamLAAL": score(folder, log)}) + "\n")
    assert (
        cli.main(["score", str(log), "--segments", str(HERE / "talks.yaml"), "--references", str(HERE / "talks.de")])
        == 0
    )


if __name__ == "__main__":
    main()
