# SPDX-License-Identifier: Apache-2.0
"""The picture of the caption page, in a real Chromium: docs/images/captions.png.

Usage: python docs/tools/captions.py URL SOURCE   (a server that runs; needs playwright and chromium)
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGE = Path(__file__).resolve().parents[1] / "images" / "captions.png"


def main(url: str, source: str) -> None:
    """Type the source, and take the picture when its last sentence is translated."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 800, "height": 300})
        tab.goto(f"{url.rstrip('/')}/captions?size=32")
        tab.locator("#source").press_sequentially(source + " ", delay=60)
        tab.wait_for_timeout(2000)
        tab.screenshot(path=IMAGE)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
