# SPDX-License-Identifier: Apache-2.0
"""Pictures of the live page, in a real Chromium: docs/images/page.png and page-narrow.png.

Usage: docs/tools/screenshot.py MODEL_FOLDER SOURCE   (needs `transformers_simul[page]`, playwright and chromium)
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from transformers_simul.cli.loading import load
from transformers_simul.live_page import build_page

IMAGES = Path(__file__).resolve().parents[1] / "images"


def main(model: str, source: str) -> None:
    _, url, _ = build_page(*load(model)).launch(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width in (("page", 1180), ("page-narrow", 480)):
            page = browser.new_page(viewport={"width": width, "height": 1000}, device_scale_factor=1.5)
            page.goto(url, timeout=120_000)
            page.locator("#source textarea").fill(source)
            page.locator("#right input").click()
            page.get_by_role("option", name="wait-1").click()
            page.locator("#play").click()
            page.wait_for_selector("#board-right .simul-text .new")
            # Words stop coming when both are done.
            before = ""
            while before != (before := page.locator(".simul-text").all_inner_texts()):
                page.wait_for_timeout(4000)
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
