# SPDX-License-Identifier: Apache-2.0
"""The paper's systems, and the program that compares them."""
