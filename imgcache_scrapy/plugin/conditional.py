"""Make requests conditional, so that a site sends an image only if it has changed."""

from scrapy import Request

from imgcache_scrapy.core.entry import Entry
from imgcache_scrapy.core.revalidation import is_conditional, validators
from imgcache_scrapy.plugin import meta


def add_validators(request: Request, entry: Entry) -> None:
    """Ask for an image only if it is not that of an entry.

    The validators of the user stay; then none are added.

    Args:
        request: the request; retries and redirects copy its headers.
        entry: the entry of the stale image.
    """
    remove_validators(request)
    added = {} if is_conditional(request.headers) else validators(entry)
    request.headers.update(added)
    request.meta[meta.VALIDATORS] = list(added)


def remove_validators(request: Request) -> None:
    """Remove the validators that were added."""
    for name in request.meta.pop(meta.VALIDATORS, ()):
        request.headers.pop(name, None)


def has_validators(request: Request) -> bool:
    """Return whether validators were added to a request."""
    return bool(request.meta.get(meta.VALIDATORS))


def is_conditional_by_user(request: Request) -> bool:
    """Return whether the user made a request conditional."""
    return not has_validators(request) and is_conditional(request.headers)


def forbid_http_cache(request: Request) -> None:
    """Keep Scrapy's HttpCache from answering a request: it may have stored a "not modified"."""
    request.meta[meta.REPEATED] = True
    request.meta[meta.DONT_CACHE] = True


def allow_http_cache(request: Request) -> None:
    """Undo `forbid_http_cache`."""
    if request.meta.pop(meta.REPEATED, None):
        request.meta.pop(meta.DONT_CACHE, None)


def remember_stale(request: Request, entry: Entry | None) -> None:
    """Make the request for a stale image conditional; retries and redirects copy its meta."""
    if meta.REPEATED in request.meta:
        return  # It is known, and this time the request is not conditional.
    remove_validators(request)
    request.meta.pop(meta.STALE, None)
    if entry is not None and not is_conditional_by_user(request):
        request.meta[meta.STALE] = entry
        add_validators(request, entry)


def forget_stale(request: Request) -> None:
    """Undo `remember_stale` and `forbid_http_cache`."""
    remove_validators(request)
    allow_http_cache(request)
    request.meta.pop(meta.STALE, None)


def repeated(request: Request) -> Request:
    """Return the request to send without validators, because "not modified" was of no use."""
    again = request.replace(dont_filter=True)
    remove_validators(again)
    forbid_http_cache(again)
    return again
