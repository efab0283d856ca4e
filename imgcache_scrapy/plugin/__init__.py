"""The Scrapy side: pipelines, the downloader middleware, the add-on and their settings.

No other part imports Scrapy. `session.py` holds what a crawl shares (settings, client, stats);
`flow.py` finds an image in the cache and stores a fetched one; `media.py` (pipelines) and
`middleware.py` call it. `uses.py` notes which items used which images. What must hold: trouble
with the cache never costs an item an image and never stops a crawl, unless `IMGCACHE_STRICT` is
set. An item leaves a pipeline only when each of its images is stored or spooled, or has failed.
Each image URL gets exactly one fate, which is counted once in a crawl. Image bodies in memory
are bounded by count and by bytes, and nothing here blocks the event loop. A pipeline that
cannot work stops the crawl at its start; the middleware switches itself off.
"""
