# SPDX-License-Identifier: Apache-2.0
"""Files for the Hub that are written beside the weights: model cards, and the decoding alone."""
