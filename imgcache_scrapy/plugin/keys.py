"""Keys: compute cache keys by the settings of a crawl, also by a function of the project."""

from collections.abc import Callable

from imgcache_scrapy.core.errors import InvalidRequestError
from imgcache_scrapy.core.key_rules import KeyRules
from imgcache_scrapy.core.keys import KeyedUrl, explain_key
from imgcache_scrapy.core.urls import is_data_url
from imgcache_scrapy.plugin.outcome import ImageFailed

USER_RULE = "user rule"
"""The reason of a key that the function of the project computed."""

# A key of the project's function is only written in one way.
_NO_PRESETS = KeyRules(presets=())


class KeyFunctionError(ImageFailed):
    """The function in `IMGCACHE_KEY_FUNCTION` raised an error or returned no URL: `failed/hook`."""

    def __init__(self, message: str) -> None:
        super().__init__("hook", f"IMGCACHE_KEY_FUNCTION {message}")


class KeyFinder:
    """Computes cache keys as the settings of a crawl want it: `key_of(url)`.

    Args:
        rules: what keys leave out, for all URLs if there is no function.
        function: computes the key of a URL instead; None for no function.
    """

    def __init__(self, rules: KeyRules, function: Callable[[str], str] | None = None) -> None:
        self._rules = rules
        self._function = function

    def __call__(self, url: str) -> str:
        """Return the cache key of a URL; see `explain`."""
        return self.explain(url).key

    def explain(self, url: str) -> KeyedUrl:
        """Return the cache key of a URL, and what it leaves out.

        The key of the function is a URL, too: its fragment does not count, and the order of its
        parameters does not either.

        Raises:
            InvalidRequestError: the value is not a URL.
            KeyFunctionError: the function of the project failed.
        """
        if self._function is None:
            return explain_key(url, self._rules)
        plain = explain_key(url, _NO_PRESETS)
        if is_data_url(url):
            return plain
        try:
            found = self._function(url)
        except Exception as error:
            raise KeyFunctionError(f"raised {type(error).__name__}: {error}") from error
        try:
            return KeyedUrl(explain_key(found, _NO_PRESETS).key, USER_RULE)
        except InvalidRequestError as error:
            raise KeyFunctionError(f"returned no URL: {error}") from error
