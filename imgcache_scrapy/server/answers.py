"""Answer with many entries: as JSON, in pages."""

import asyncio
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from imgcache_scrapy.core.pages import ListPage
from imgcache_scrapy.server.bodies import AnswerMemory, json_response

PAGE: dict[str, Any] = {
    "headers": {
        "Link": {
            "description": 'The address of the next page, with `rel="next"`, if there is one.',
            "schema": {"type": "string"},
        }
    }
}
"""The description of a page for the OpenAPI document."""

# To write more entries as JSON takes a millisecond, in which the event loop would stand still.
_MAX_ENTRIES_IN_LOOP = 100


async def page_response(memory: AnswerMemory, request: Request, page: ListPage[Any]) -> Response:
    """Answer with a page; its header `Link` has the address of the next one (RFC 8288)."""
    headers = {}
    if page.after is not None:
        asked = request.query_params.multi_items()
        query = [*(each for each in asked if each[0] != "after"), ("after", page.after)]
        path = request.scope.get("root_path", "") + request.scope["path"]
        headers["Link"] = f'<{path}?{urlencode(query)}>; rel="next"'
    return await entries_response(memory, page.entries, len(page.entries), headers)


async def entries_response(
    memory: AnswerMemory, content: Any, entries: int, headers: dict[str, str]
) -> Response:
    """Answer with entries as JSON.

    Args:
        memory: limits the memory of all answers.
        content: the answer.
        entries: the number of entries in it.
        headers: additional headers.
    """
    if entries <= _MAX_ENTRIES_IN_LOOP:
        rendered = JSONResponse(content)
    else:
        rendered = await asyncio.to_thread(JSONResponse, content)
    await memory.make_room(len(rendered.body))
    return json_response(memory, bytes(rendered.body), headers)
