"""How a call to the database fails: one retry for a dead connection, then one error."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from sqlalchemy import exc

from imgcache_scrapy.core.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")


def database_call(call: Callable[P, T]) -> Callable[P, T]:
    """Make a function raise `UnavailableError` when the database fails.

    If the connection died during the call, for example because the database was restarted, the
    function is called once more. That is safe: a transaction that was not committed left nothing,
    and repeating a committed one changes nothing.

    Args:
        call: a function whose whole work with the database may be repeated.
    """

    @functools.wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            try:
                return call(*args, **kwargs)
            except exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return call(*args, **kwargs)
        except (exc.DBAPIError, exc.TimeoutError) as error:
            # Not the statement, nor the details: they may hold URLs.
            reason = str(getattr(error, "orig", error)).strip().split("\n", 1)[0]
            raise UnavailableError(f"the catalog failed: {reason}") from error

    return guarded
