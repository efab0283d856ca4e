"""FetchRules: how images are fetched, by the settings of a project."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from imgcache_scrapy.core.failures import DEFAULT_SECONDS
from imgcache_scrapy.core.freshness import FreshnessRules
from imgcache_scrapy.core.limits import MAX_IMAGE_BYTES


@dataclass(frozen=True)
class FetchRules:
    """How images are fetched, in a crawl and by `fetch`.

    Attributes:
        freshness: which captures are too old.
        remember_failures: for how many seconds a failure of each reason is remembered; None if
            failures are neither remembered nor believed.
        retry_failed: whether URLs with a remembered failure are requested.
        max_image_bytes: size of the largest image that is kept, in bytes.
        headers: the headers that `fetch` sends, unless its caller gives others of the same name.
    """

    freshness: FreshnessRules = field(default_factory=FreshnessRules)
    remember_failures: Mapping[str, float] | None = field(default_factory=lambda: DEFAULT_SECONDS)
    retry_failed: bool = False
    max_image_bytes: int = MAX_IMAGE_BYTES
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def believes_failures(self) -> bool:
        """Whether a URL with a remembered failure is not requested."""
        asks_again = self.retry_failed or self.freshness.mode == "refresh"
        return self.remember_failures is not None and not asks_again


DEFAULT_FETCH_RULES = FetchRules()
"""The rules where no project has others."""
