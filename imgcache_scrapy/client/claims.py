"""Claims: asks a service whether it has the bytes of images, before they are sent."""

from dataclasses import dataclass
from typing import Any

from imgcache_scrapy.client.answers import Answer
from imgcache_scrapy.client.connection import MAX_ANSWER, Connection
from imgcache_scrapy.client.entries import entry_of
from imgcache_scrapy.core.concurrency import Batcher
from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.errors import REFUSALS, ProtocolError, UnavailableError
from imgcache_scrapy.core.limits import MAX_BATCH_CLAIMS


@dataclass(frozen=True, eq=False)
class _Question:
    fields: dict[str, Any]


class Claims:
    """Sends claims; those that are made while others are under way go together.

    Args:
        connection: the connection to the service.
        seconds: maximum time for one request; None for no limit.

    Attributes:
        are_supported: whether the service has the route; False once it has shown that it has not.
    """

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._batcher: Batcher[_Question, Entry] = Batcher(self._send, max_batch=MAX_BATCH_CLAIMS)
        self.are_supported = True

    async def ask(self, fields: dict[str, Any]) -> Entry | None:
        """Claim an image; call it within `Connection.limited`.

        Args:
            fields: the fields of the claim.

        Returns:
            The entry; None if the service does not have the bytes, or does not take them.

        Raises:
            ImgCacheError: the service failed.
        """
        return await self._batcher.ask(_Question(fields)) if self.are_supported else None

    async def ask_alone(self, fields: dict[str, Any]) -> Entry | None:
        """Claim an image by a request of its own; call it within `Connection.limited`.

        Args:
            fields: the fields of the claim.

        Returns:
            The entry; None if the service does not have the bytes.

        Raises:
            BlockedError: the image is blocked.
            ImgCacheError: the service failed.
        """
        if not self.are_supported:
            return None
        answer = await self._connection.call("POST", "/images/claim", json=fields)
        if answer.lacks_route:
            self.are_supported = False
            return None
        return answer.claimed_entry(fields["key"], fields["content_hash"])

    async def _send(self, questions: list[_Question]) -> dict[_Question, Entry]:
        try:
            async with timeout(self._seconds):
                answer = await self._connection.call(
                    "POST",
                    "/images/claims",
                    json={"claims": [question.fields for question in questions]},
                    max_bytes=len(questions) * MAX_ANSWER,
                )
        except TimeoutError as error:
            raise UnavailableError("the cache did not answer the claims in time") from error
        if answer.lacks_route:
            self.are_supported = False
            return {}
        try:
            return _entries(answer, questions)
        except REFUSALS:
            # Of the whole request. Each image is sent, and its own answer says what is wrong.
            return {}


def _entries(answer: Answer, questions: list[_Question]) -> dict[_Question, Entry]:
    found = answer.checked().object().get("entries")
    if not isinstance(found, list) or len(found) != len(questions):
        raise ProtocolError("the answer should have an entry, or null, for each claim")
    asked = ("key", "content_hash")
    return {
        question: {
            **entry_of(body, **{name: question.fields[name] for name in asked}),
            "created": False,
        }
        for question, body in zip(questions, found, strict=True)
        if body is not None
    }
