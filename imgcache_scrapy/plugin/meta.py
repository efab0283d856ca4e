"""All keys of `request.meta` that the plugin reads or writes."""

# For users: True forces the cache for one request, False forbids it.
CACHE = "imgcache"
# For users: the cache key of the request's URL.
KEY = "imgcache_key"
# For users: the maximum age of a capture in seconds; None for no limit.
MAX_AGE = "imgcache_max_age"
# For users: the entry of the image, after a hit or a store.
ENTRY = "imgcache_entry"

# The URL as written in the item; the results have this URL.
ITEM_URL = "imgcache_url"
# The URL that is asked for; only in requests of our own pipelines.
PIPELINE_URL = "imgcache_managed"
# The number of the reservation; only in requests that the middleware looked up without a hit.
RESERVATION = "imgcache_held"
# The URL of the first request of a redirect chain, and the URL of the last request.
CHAIN = "imgcache_asked"
# The names of the headers that make the request conditional; only in requests that revalidate.
VALIDATORS = "imgcache_validators"
# The entry of the stale image; only in requests that the middleware revalidates.
STALE = "imgcache_stale_entry"
# True in a request that is sent again without validators.
REPEATED = "imgcache_repeated"

# Keys of Scrapy.
ALLOW_OFFSITE = "allow_offsite"
DONT_RETRY = "dont_retry"
RETRY_TIMES = "retry_times"
MAX_RETRY_TIMES = "max_retry_times"
DONT_CACHE = "dont_cache"
MAX_SIZE = "download_maxsize"
ALL_STATUSES = "handle_httpstatus_all"
STATUSES = "handle_httpstatus_list"
REDIRECT_URLS = "redirect_urls"
