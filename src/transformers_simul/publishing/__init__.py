# SPDX-License-Identifier: Apache-2.0
"""What is written for the Hub beside the weights."""
