#!/usr/bin/env bash
# Regenerates random.log, agent.log and SimulEval 1.1.4's scores of them, in an environment of its own: SimulEval pins
# tqdm below what datasets asks for, so it never shares one with this package's other dependencies.
# Usage: tests/simuleval/record.sh [FOLDER OF THE ENVIRONMENT]
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${1:-$(mktemp -d)}
test -x "$environment/bin/python" || python3 -m venv "$environment"
"$environment/bin/pip" install --quiet torch==2.13.0 simuleval==1.1.4 "setuptools<81" transformers==5.23.0
"$environment/bin/pip" install --quiet --no-deps .
PATH="$environment/bin:$PATH" HF_HUB_OFFLINE=1 "$environment/bin/python" tests/simuleval/record.py
