# SPDX-License-Identifier: Apache-2.0
"""What operators are given fits the program: flags, paths, metrics, times. No image is built here."""

import fnmatch
import json
import re
import shlex

import pytest

from test_docs import ROOT
from transformers_simul.cli import make_parser
from transformers_simul.serving.metrics import Metrics

yaml = pytest.importorskip("yaml")
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "transformers-simul.service").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def seconds(text):
    return float(re.fullmatch(r"(\d+)s?", str(text))[1])


def commands():
    (start,) = re.findall(r"^ExecStart=\S*/transformers-simul (.*)$", UNIT, re.MULTILINE)
    yield "unit", shlex.split(start), seconds(re.search(r"^TimeoutStopSec=(.*)$", UNIT, re.MULTILINE)[1])
    service = COMPOSE["services"]["simul"]
    yield "compose", ["serve", *service["command"]], seconds(service["stop_grace_period"])
    (given,) = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["transformers-simul", "serve"]' in DOCKERFILE
    yield "image", ["serve", *json.loads(given)], float("inf")


@pytest.mark.parametrize(
    ("name", "words", "patience_s"), [*commands()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_command_is_one_and_whoever_stops_it_waits_for_its_streams(name, words, patience_s):
    args = make_parser().parse_args(words)
    assert patience_s > args.drain_s + 5
    # What other machines reach asks for tokens.
    assert args.host == "127.0.0.1" or args.token_file or "TRANSFORMERS_SIMUL_TOKENS" in DOCKERFILE
    assert not args.no_token


def test_what_the_image_copies_is_there_and_is_sent_to_the_builder():
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().split() if rule.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, rule.removeprefix("!")) for rule in rules)
    assert COMPOSE["services"]["simul"]["build"]["dockerfile"] == "deploy/Dockerfile"


def test_prometheus_asks_where_the_server_answers_and_for_metrics_that_it_has():
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scrape["scrape_configs"]
    name, port = job["static_configs"][0]["targets"][0].split(":")
    assert name in COMPOSE["services"]
    assert any(mapped.endswith(f":{port}") for mapped in COMPOSE["services"][name]["ports"])
    secret = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in COMPOSE["services"]["prometheus"]["secrets"]
    metrics = Metrics()
    metrics.word_s.labels("m").observe(1)
    metrics.streams.labels("m").set(1)
    metrics.places.labels("m").set(1)
    metrics.step_s.labels("m").observe(1)
    metrics.refusals.labels("full").inc()
    there = set(re.findall(r"^(simul_\w+)", metrics.text().decode(), re.MULTILINE))
    alerts = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\bsimul_\w+", alerts))
    assert asked <= there, asked - there
    assert all(rule["expr"] for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"])
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    for metric in set(re.findall(r"`(simul_\w+)", page)):
        assert any(known.startswith(metric) for known in there), metric
