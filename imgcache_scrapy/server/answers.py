"""Answer with many entries: as JSON, in pages."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import TypeAdapter

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

# It takes a third of the time that json needs.
_JSON: TypeAdapter[Any] = TypeAdapter(Any)


async def page_response(memory: AnswerMemory, request: Request, page: ListPage[Any]) -> Response:
    """Answer with a page; its header `Link` has the address of the next one (RFC 8288)."""
    headers = {}
    if page.after is not None:
        asked = request.query_params.multi_items()
        query = [*(each for each in asked if each[0] != "after"), ("after", page.after)]
        path = request.scope.get("root_path", "") + request.scope["path"]
        headers["Link"] = f'<{path}?{urlencode(query)}>; rel="next"'
    return await entries_response(memory, page.entries, headers)


async def entries_response(
    memory: AnswerMemory, content: Any, headers: Mapping[str, str]
) -> Response:
    """Answer with entries as JSON.

    Args:
        memory: limits the memory of all answers.
        content: the answer.
        headers: additional headers.
    """
    data = _JSON.dump_json(content)
    await memory.make_room(len(data))
    return json_response(memory, data, headers)
