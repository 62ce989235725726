# SPDX-License-Identifier: Apache-2.0
"""The caption page, and the JavaScript module that it is made with; both are served as they are."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript"}
_HEADERS = {
    # Nothing is loaded from elsewhere, and no other page may show this one.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
    # A page elsewhere whose origin is allowed may import the module.
    "cross-origin-resource-policy": "cross-origin",
}


def add_pages(app: FastAPI) -> None:
    """Serve `/captions` and its files.

    Args:
        app (`FastAPI`): the application.
    """
    for name, path in (
        ("captions.html", "/captions"),
        ("captions.css", "/captions/captions.css"),
        ("captions.js", "/captions/captions.js"),
        ("simul-client.js", "/captions/simul-client.js"),
    ):
        app.add_api_route(path, _page(name), include_in_schema=False, response_class=Response)


def _page(name: str):
    content = (files(__name__) / name).read_bytes()
    media_type = _TYPES[name.rpartition(".")[2]]

    async def page() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return page


__all__ = ["add_pages"]
