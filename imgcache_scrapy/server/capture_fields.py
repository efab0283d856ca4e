"""CaptureFields: what a request says about the capture that it wants to be recorded."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from imgcache_scrapy.core.response_info import ResponseInfo
from imgcache_scrapy.server.parameters import Key, Text, Url, check_iso_8601, image_url


class CaptureFields(BaseModel):
    """The fields of a capture.

    Attributes:
        url: the URL of the image.
        client_name: the name of the client that fetched it.
        bucket: the name space of the capture.
        lookup_time: when the image was fetched, in ISO 8601.
        filename: the original file name; by default the last part of the URL's path.
        key: the cache key of the URL; None for the default one.
        final_url: the URL that gave the image after redirects.
        accept: the header `Accept` of the request.
    """

    url: Url
    client_name: Annotated[Text, Field(min_length=1)]
    bucket: Text = ""
    lookup_time: Annotated[datetime | None, BeforeValidator(check_iso_8601)] = None
    filename: Text | None = None
    key: Key | None = None
    final_url: Url | None = None
    accept: Text | None = None

    def capture_arguments(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments of `capture_of`.

        Args:
            headers: headers of the site's response.

        Raises:
            InvalidRequestError: the final URL is not a URL.
        """
        url, key, _ = image_url(self.url, self.key)
        names = {"client_name", "bucket", "lookup_time", "filename"}
        response = ResponseInfo.of(url, headers, self.final_url, self.accept)
        return {**self.model_dump(include=names), "url": url, "key": key, "response": response}
