# SPDX-License-Identifier: Apache-2.0
"""How a program starts and ends: threads, a folder that can be written, errors without a traceback."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub.utils import enable_progress_bars
from transformers.utils import logging as transformers_logging

from ..text_files import one_line, write_text


def run_program(main: Callable[[], None]) -> None:
    """Run `main`. Wrong input ends with one line and status 1, Ctrl-C with status 130, as does SIGTERM while a single
    process trains."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Bars of weights that are read or written; downloads keep theirs.
    transformers_logging.disable_progress_bar()
    enable_progress_bars()
    try:
        main()
        if torch.distributed.is_initialized():
            # Processes that just exit may abort each other's.
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
    # An extra that is not installed names itself.
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt as interrupt:
        # A training says what it has saved.
        print(f"\n{interrupt or 'Interrupted; what was finished before is kept.'}", file=sys.stderr)
        sys.exit(130)
    except FileNotFoundError as error:
        sys.exit(f"error: {one_line(error)}")
    except OSError as error:
        sys.exit(f"error: {one_line(error).rstrip('.')}. Files that were written before are whole.")


def check_writable(folder: Path) -> None:
    """Check the output folder before the work begins, so that a program does not fail after it.

    Raises:
        ValueError: if nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"output_dir must be a folder that can be written, got {str(folder)!r}: {error}.") from error


__all__ = ["check_writable", "run_program"]
