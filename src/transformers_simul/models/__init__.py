# SPDX-License-Identifier: Apache-2.0
"""What travels with saved weights: the law, the models, the decoding.

Each file imports torch, Transformers and its siblings only."""
