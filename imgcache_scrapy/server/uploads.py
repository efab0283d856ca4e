"""Read and check the multipart form of an upload."""

import logging
from typing import Any

from fastapi import Request
from pydantic import Field, Json, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.limits import MAX_TEXT
from imgcache_scrapy.core.text import quoted
from imgcache_scrapy.server.capture_fields import CaptureFields
from imgcache_scrapy.server.guard import MAX_BODY_BYTES
from imgcache_scrapy.server.parameters import GIVEN_URL_PATTERN, TEXT_PATTERN, URL_PATTERN
from imgcache_scrapy.server.problems import validation_detail

# The time to parse the header grows with the square of its length.
_MAX_CONTENT_TYPE = 1000
_CHARSETS = {b"utf-8", b"utf8"}
# File names that mean that the file has no name: clients send "image" then.
_NO_NAMES = {None, "", "image"}
# The answer says what is wrong with a form. A line for each would let clients fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Upload(CaptureFields):
    """The fields of the form of a store, and its file.

    Attributes:
        file: the bytes of the image.
        headers: headers of the site's response, a JSON object.
    """

    file: bytes
    headers: Json[dict[str, str]] = Field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `AsyncImageCache.store`.

        Raises:
            InvalidRequestError: the final URL is not a URL.
        """
        return {"data": self.file, **self.capture_arguments(self.headers)}


def _field(**limits: Any) -> dict[str, Any]:
    """Return the schema of a field; its type is always text, as a form has no other types."""
    return {"allOf": [{"type": "string", **limits}]}


_TEXT_LIMITS = {"maxLength": MAX_TEXT, "pattern": TEXT_PATTERN}
# A file may have any bytes, also those of a JSON value.
_FILE = {
    "contentMediaType": "application/octet-stream",
    "minLength": 1,
    "minItems": 1,
}
UPLOAD_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "url", "client_name"],
                "properties": {
                    "file": _FILE,
                    "url": _field(pattern=URL_PATTERN),
                    "client_name": _field(minLength=1, **_TEXT_LIMITS),
                    "bucket": {"default": "", **_field(**_TEXT_LIMITS)},
                    "lookup_time": _field(format="date-time"),
                    "key": _field(pattern=GIVEN_URL_PATTERN),
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                    "final_url": _field(pattern=URL_PATTERN),
                    "accept": _field(**_TEXT_LIMITS),
                },
            },
            "encoding": {
                "file": {"contentType": "application/octet-stream"},
                "headers": {"contentType": "application/json"},
            },
        }
    },
}


class _InMemoryParser(MultiPartParser):
    # Starlette would write a larger file to disk, in many small calls to threads, which is slow.
    spool_max_size = MAX_BODY_BYTES
    is_complete = False

    def on_part_end(self) -> None:
        # Starlette would decode it as Latin-1.
        part = self._current_part
        if part.file is None and not _is_utf_8(part.data):
            raise MultiPartException(f"the field {quoted(part.field_name)} is not UTF-8")
        super().on_part_end()

    def on_end(self) -> None:
        self.is_complete = True


async def read_upload(request: Request) -> Upload:
    """Read the form of a store.

    Raises:
        InvalidRequestError: a field is missing or wrong, or the body is not a multipart form.
        HTTPException: the body is too large, or arrives too slowly.
    """
    _check_content_type(request.headers.get("content-type", ""))
    parser = _InMemoryParser(request.headers, request.stream(), max_files=1)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidRequestError(f"the body is not a multipart form: {error.message}") from error
    except ClientDisconnect as error:
        raise InvalidRequestError("the client closed the connection during the upload") from error
    if not parser.is_complete:
        raise InvalidRequestError("the body is not a multipart form: it ends too early")
    return _upload_of(form)


def _check_content_type(content_type: str) -> None:
    """Check that a body is a form in UTF-8.

    A client must not choose another codec: some of them take minutes for a megabyte.
    """
    if not content_type.lower().startswith("multipart/form-data"):
        raise InvalidRequestError("a store needs a multipart/form-data body")
    if len(content_type) > _MAX_CONTENT_TYPE:
        raise InvalidRequestError(
            f"the header Content-Type must not have more than {_MAX_CONTENT_TYPE} characters"
        )
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    if charset.lower() not in _CHARSETS:
        raise InvalidRequestError(f"a form must be UTF-8, not {quoted(charset.decode('latin-1'))}")


def _is_utf_8(data: bytearray) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _upload_of(form: FormData) -> Upload:
    fields: dict[str, Any] = dict(form)
    upload = fields.pop("file", None)
    if isinstance(upload, UploadFile):
        name = None if upload.filename in _NO_NAMES else upload.filename
        fields |= {"file": upload.file.read(), "filename": name}
        upload.file.close()
    try:
        return Upload.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequestError(validation_detail(error.errors(include_input=False))) from error
