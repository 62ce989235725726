#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerates random.log, speech.log, agent.log and SimulEval 1.1.4's scores of them, in an environment of its own, installed as
# docs/evaluation.md says.
# Usage: tests/simuleval/record.sh [FOLDER OF THE ENVIRONMENT]
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${1:-$(mktemp -d)}
test -x "$environment/bin/python" || python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --constraint constraints.txt ".[simuleval]"
"$environment/bin/pip" install --quiet --no-deps simuleval==1.1.4
PATH="$environment/bin:$PATH" HF_HUB_OFFLINE=1 "$environment/bin/python" tests/simuleval/record.py
