"""Reads a multipart upload into memory."""

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from imgcache_scrapy.core.checks import checked_text, checked_url
from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_TEXT
from imgcache_scrapy.server.guard import MAX_BODY_BYTES
from imgcache_scrapy.server.problems import sentence

# What clients call a file that has no name.
_NAMELESS = {None, "", "image"}


def _checked(url: str) -> str:
    try:
        return checked_url(url)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error


def _valid(text: str) -> str:
    try:
        return checked_text("it", text)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error


def _as_iso_8601(value: object) -> object:
    # Pydantic would take a number of seconds as well.
    if not re.match(r"\d{4}-\d\d-\d\d", str(value)):
        raise ValueError("a time is like 2026-01-31T12:00:00+00:00")
    return value


# As the validators above say it, for the OpenAPI document.
_TEXT = r"^[^\x00]*$"
_URL = r"^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$"


def _pattern(pattern: str) -> dict[str, Any]:
    # schemathesis takes any text with a "*" at its end for one that a plain pattern forbids.
    return {"allOf": [{"pattern": pattern}]}


Text = Annotated[
    str, Field(max_length=MAX_TEXT, json_schema_extra=_pattern(_TEXT)), AfterValidator(_valid)
]
Url = Annotated[str, Field(json_schema_extra=_pattern(_URL)), AfterValidator(_checked)]


class Upload(BaseModel):
    """The form fields of a store, and the file.

    Attributes:
        file: the image's bytes.
        url: the URL that led to it.
        client_name: who stores it.
        bucket: the name space.
        lookup_time: when it was fetched, ISO 8601.
        filename: the name that came with the file.
    """

    file: bytes
    url: Url
    client_name: Annotated[Text, Field(min_length=1)]
    bucket: Text = ""
    lookup_time: Annotated[datetime | None, BeforeValidator(_as_iso_8601)] = None
    filename: Text | None = None


def _field(**limits: Any) -> dict[str, Any]:
    """Describe a field: always text, so that a number or a list is no other type but other text."""
    return {"allOf": [{"type": "string", **limits}]}


_LIMITED = {"maxLength": MAX_TEXT, "pattern": _TEXT}
UPLOAD_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "url", "client_name"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "minLength": 1},
                    "url": _field(pattern=_URL),
                    "client_name": _field(minLength=1, **_LIMITED),
                    "bucket": {"default": "", **_field(**_LIMITED)},
                    "lookup_time": _field(format="date-time"),
                },
            }
        }
    },
}


class _InMemoryParser(MultiPartParser):
    # Starlette writes a larger file to disk, chunk by chunk, through anyio's threads; under
    # Scrapy's reactor each such hop walks every pending task.
    spool_max_size = MAX_BODY_BYTES
    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def read_upload(request: Request) -> Upload:
    """Read the form of a store.

    Raises:
        InvalidRequestError: a field is missing or wrong, or the body is no multipart form.
        HTTPException: the body is too large, or came too slowly.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidRequestError("a store wants a multipart/form-data body")
    parser = _InMemoryParser(request.headers, request.stream(), max_files=1, max_fields=16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequestError(f"the body is no multipart form: {error.message}") from error
    except ClientDisconnect as error:
        raise InvalidRequestError("the client hung up in mid-upload") from error
    if not parser.is_complete:
        raise InvalidRequestError("the body is no multipart form: it ends too early")
    return _validated(form)


def _validated(form: FormData) -> Upload:
    fields: dict[str, Any] = dict(form)
    upload = fields.pop("file", None)
    if isinstance(upload, UploadFile):
        name = None if upload.filename in _NAMELESS else upload.filename
        fields |= {"file": upload.file.read(), "filename": name}
        upload.file.close()
    try:
        return Upload.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequestError(sentence(error.errors(include_input=False))) from error
