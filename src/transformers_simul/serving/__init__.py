# SPDX-License-Identifier: Apache-2.0
"""Live translation over the network: `transformers-simul serve`. Needs `transformers_simul[serve]`."""
