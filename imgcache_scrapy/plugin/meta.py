"""Every key of `request.meta` that the plugin reads or writes."""

# For users: True or False forces or forbids the cache for one request.
CACHE = "imgcache"
# For users: the entry, after a hit or a store.
ENTRY = "imgcache_entry"

# The URL as the item has it; results are given with this URL.
ITEM_URL = "imgcache_url"
# The cache key, in a request that one of our pipelines makes.
PIPELINE_KEY = "imgcache_managed"
# The number of the reservation, in a request that the middleware looked up and did not find.
RESERVATION = "imgcache_held"
# The cache key of the first request of a chain of redirects, and the URL of its last request.
CHAIN = "imgcache_asked"

# Scrapy's own.
ALLOW_OFFSITE = "allow_offsite"
DONT_CACHE = "dont_cache"
ALL_STATUSES = "handle_httpstatus_all"
STATUSES = "handle_httpstatus_list"
REDIRECT_URLS = "redirect_urls"
