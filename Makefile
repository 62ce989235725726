# Every target sets up what it needs in .venv; `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
# An environment of your own instead of constraints.txt's pins (a GPU build of torch, say): make test CONSTRAINTS=
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo train test check bench docs package clean

# On one core: so small a model gains little from a second one, and threads that wait for a busy core wait long.
demo: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python examples/demo.py

# A small model from scratch, in ten minutes; interrupted, it goes on where it was.
train: $(READY)
	$(BIN)/python examples/run_simul_translation.py --dataset_name home_assistant --source_lang en --target_lang de \
	  --output_dir output/train --template "{source} => {target}" --max_length 256 --do_train --do_predict \
	  --wait_k 1 3 5 7 full --eval_wait_k 1 3 5 7 --max_steps 2600 --max_train_minutes 9 \
	  --per_device_train_batch_size 16 --learning_rate 1e-3 --lr_scheduler_type linear --warmup_steps 200 \
	  --num_hidden_layers 4 --num_attention_heads 8 --vocab_size 3000 --dropout 0.1 --label_smoothing 0.1 \
	  --train_sampling_strategy group_by_length --save_steps 200 --save_total_limit 1 --logging_steps 100 \
	  --report_to none
	$(BIN)/transformers-simul mask output/train --output output/train/mask.png \
	  --source "Already configured. Only one is possible." --target "Bereits konfiguriert. Nur eine möglich."

# Files of tests side by side, each on one core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope

test: $(READY)
	$(PYTEST)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

bench: $(READY)
	$(BIN)/python benchmarks/run.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "written: output/site/index.html"

package: $(READY)
	PYTHON=$(BIN)/python tests/package.sh

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) \
	  --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv output build dist
