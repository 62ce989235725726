# SPDX-License-Identifier: Apache-2.0
"""Pictures of the live page, in a real Chromium: docs/images/page.png and page-narrow.png.

Usage: python docs/tools/screenshot.py MODEL_FOLDER SOURCE   (needs `transformers_simul[page]`, playwright and chromium)
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from transformers_simul.cli.loading import load
from transformers_simul.live_page import build_page

IMAGES = Path(__file__).resolve().parents[1] / "images"
# Name, width and height in CSS pixels, theme.
PICTURES = (("page", 1100, 900, "light"), ("page-narrow", 390, 844, "light"))


def main(model: str, source: str) -> None:
    """Play the source once a picture, and take each picture when both translations have ended."""
    page = build_page(*load(model), examples=[source])
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, theme in PICTURES:
            tab = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.5)
            tab.set_default_timeout(120_000)
            tab.goto(f"{url}?__theme={theme}")
            tab.locator("#examples button").first.click()
            tab.wait_for_function(
                "document.querySelector('#boards').innerText.split('the translation has ended').length == 3"
            )
            # A phone shows what fits on its screen.
            tab.screenshot(path=IMAGES / f"{name}.png", full_page=name != "page-narrow")
            tab.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
