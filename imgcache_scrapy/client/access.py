"""Check at the start of a crawl that a cache lets it in."""

from collections.abc import Awaitable, Callable

from imgcache_scrapy.core.deadline import timeout
from imgcache_scrapy.core.errors import ConfigurationError, HostError, UnauthorizedError

# A cache that hangs must not delay the start of a crawl for long.
_ACCESS_SECONDS = 3


async def check_access(
    lookup: Callable[[], Awaitable[object]], cache_name: str, count: Callable[[str], None]
) -> None:
    """Check that a cache accepts the token and its own host name.

    Other trouble is left to the breaker.

    Args:
        lookup: makes a call that needs the token.
        cache_name: the name of the cache for messages.
        count: adds 1 to the stat of this name.

    Raises:
        ConfigurationError: the cache refuses one of them; the message says what to do.
    """
    try:
        async with timeout(_ACCESS_SECONDS):
            await lookup()
    except UnauthorizedError as error:
        count(f"error/{error.code}")
        raise ConfigurationError(
            f"the image cache {cache_name} refuses the token: set IMGCACHE_TOKEN to the "
            f"token of its service ({error})"
        ) from error
    except HostError as error:
        count(f"error/{error.code}")
        raise ConfigurationError(
            f"the image cache {cache_name} refuses its host name: {error}"
        ) from error
    except Exception:
        return
