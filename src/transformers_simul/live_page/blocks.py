# SPDX-License-Identifier: Apache-2.0
"""The page's own `launch()`: bounded, without files, telemetry or a record of what visitors wrote. It imports
Gradio."""

from collections.abc import Sequence
from typing import Any

import gradio
from starlette.middleware import Middleware

from .guard import Guard
from .visitors import Visitors


class LivePage(gradio.Blocks):
    """Blocks that are served through a [`Guard`].

    Args:
        visitors (`Visitors`): who translates.
        host_names (`Sequence[str]`): as for [`Guard`].
        **options: as for `gradio.Blocks`.
    """

    def __init__(self, visitors: Visitors, host_names: Sequence[str], **options: Any):
        self.visitors, self.host_names = visitors, host_names
        super().__init__(**options)

    def launch(self, *args: Any, **options: Any) -> Any:
        """Do as `gradio.Blocks.launch`, with the same options; `share` is off unless it is given."""
        heard = {"on_arrive": self.visitors.arrive, "on_leave": self.visitors.leave}
        guard = Middleware(Guard, names=self.host_names, **heard)
        app_options = options.pop("app_kwargs", None) or {}
        app_options["middleware"] = [guard, *app_options.get("middleware", ())]
        safe: dict[str, Any] = {"share": False, "run_history": False, "footer_links": ["gradio"], "max_file_size": 1}
        # Each visitor who translates or waits holds one of Gradio's workers.
        safe["max_threads"] = 40 + 4 * self.visitors.engine.cache.batch_size
        return super().launch(*args, app_kwargs=app_options, **safe | options)


__all__ = ["LivePage"]
