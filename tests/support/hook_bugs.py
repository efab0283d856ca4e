"""Hooks with bugs, each a row of the table."""

from io import BytesIO

from scrapy import Request

from tests.support.hook_table import THUMBS, hook_row


@hook_row("files", reasons=["hook"])
def bug__file_path(self, request, response=None, info=None, *, item=None):
    return f"{nmae}.jpg"  # noqa: F821 - the bug


@hook_row("files", reasons=["hook"])
def bug__media_to_download(self, request, info, *, item=None):
    return {}["no such key"]


@hook_row("files", reasons=["hook"])
def bug__media_downloaded(self, response, request, info, *, item=None):
    return response.nothing


@hook_row("files", reasons=["hook"])
async def bug__file_downloaded(self, response, request, info, *, item=None):
    return 1 / 0


@hook_row("files", ["404.jpg"], reasons=["hook"])
def bug__media_failed(self, failure, request, info):
    return failure.nothing


@hook_row("files")
def bug__get_media_requests(self, item, info):
    return [Request(url) for url in item["no such field"]]


@hook_row("files")
def bug__item_completed(self, results, item, info):
    return results[7]


@hook_row("images", reasons=["hook"])
def bug_image__file_path(self, request, response=None, info=None, *, item=None):
    return f"{item['no such field']}.jpg"


@hook_row("images", reasons=["hook"], settings={"IMAGES_THUMBS": THUMBS})
def bug__thumb_path(self, request, thumb_id, response=None, info=None, *, item=None):
    return f"{item['no such field']}.jpg"


@hook_row("images", reasons=["hook"])
def bug__convert_image(self, image, size=None, *, response_body):
    return image.nothing


@hook_row("images", reasons=["hook"])
def bug__get_images(self, response, request, info, *, item=None):
    raise ValueError("too bright")


@hook_row("images", reasons=["hook"])
async def bug__image_downloaded(self, response, request, info, *, item=None):
    return item["no such field"]


# Hooks with the signatures or results of other versions of Scrapy.


@hook_row("files", reasons=["hook"])
def old__file_path(self, request, response=None, info=None):
    return "a.jpg"


@hook_row("images", reasons=["hook"], settings={"IMAGES_THUMBS": THUMBS})
def old__thumb_path(self, request, thumb_id, response=None, info=None):
    return f"{thumb_id}.jpg"


@hook_row("images", reasons=["hook"])
def old__convert_image(self, image, size=None):
    return image, BytesIO(b"not a JPEG")


@hook_row("images", reasons=["hook"])
def old__get_images(self, response, request, info):
    return []


@hook_row("images", reasons=["hook"])
def none__get_images(self, response, request, info, *, item=None):
    return None


@hook_row("images", reasons=["hook"])
def old__image_downloaded(self, response, request, info, *, item=None):
    return "a checksum, not awaitable"


@hook_row("files", reasons=["hook"])
def old__inc_stats(self, spider, status):
    pass


@hook_row("files", ["404.jpg"], reasons=["hook"])
def old__media_failed(self, failure, request):
    return failure
