# SPDX-License-Identifier: Apache-2.0
"""Words in, words out: live sources, written words, many streams on one model."""
