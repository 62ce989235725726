#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds wheel and source distribution, installs the wheel without extras into a clean environment, and tries it there.
# Needs the package index. PYTHON names an interpreter that has `build`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-python3}")
# The installed package is what is tried, not what an environment points at.
unset PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --outdir "$work/dist" . > "$work/build.log" 2>&1 || { tail -20 "$work/build.log"; exit 1; }
ls "$work/dist"
"$python" -m venv "$work/clean"
"$work/clean/bin/pip" install --quiet --disable-pip-version-check --constraint constraints.txt "$work"/dist/*.whl
"$work/clean/bin/pip" check
# Elsewhere, so that nothing of the source tree is found.
cd "$work"
"$work/clean/bin/python" - <<'PYTHON'
import importlib.resources
import importlib.util

import transformers_simul

assert "site-packages" in transformers_simul.__file__, transformers_simul.__file__
files = importlib.resources.files("transformers_simul")
for name in ("py.typed", "serving/pages/captions.html", "serving/pages/captions.css", "serving/pages/simul-client.js"):
    assert files.joinpath(name).is_file(), name
extras = set()
for name in transformers_simul.__all__:
    try:
        getattr(transformers_simul, name)
    except ImportError as error:
        # What needs an extra says which.
        assert "pip install 'transformers_simul[" in str(error), (name, error)
        extras.add(name)
assert extras <= {"ConnectionLost", "PlainSimulClient", "ServerError", "SimulClient"}, extras
for extra in ("peft", "gguf", "gradio", "matplotlib", "sacrebleu"):
    assert importlib.util.find_spec(extra) is None, f"{extra} is an extra and must not be there"
PYTHON
"$work/clean/bin/transformers-simul" --help > "$work/help"
grep -q translate "$work/help"
# Without its extra, a command names it, before it looks at more of a model than which files are there.
mkdir "$work/model"
for file in config.json processor_config.json tokenizer.json tokenizer_config.json; do echo '{}' > "$work/model/$file"; done
touch "$work/model/model.safetensors"
if "$work/clean/bin/transformers-simul" demo "$work/model" 2> "$work/errors"; then exit 1; fi
grep -q "pip install 'transformers_simul\[page\]'" "$work/errors" || { cat "$work/errors"; exit 1; }
echo "wheel and source distribution build, install and import"
