# SPDX-License-Identifier: Apache-2.0
"""Speech in: audio, recognised words with their times, and their translation while the speaker goes on."""
