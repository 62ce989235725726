# SPDX-License-Identifier: Apache-2.0
"""`python -m transformers_simul.cli`."""

import sys

from . import main

sys.exit(main())
