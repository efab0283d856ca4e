"""The base that every other part uses: entries, errors, limits, URLs, cache keys, image formats.

Core imports no other part, and beyond the standard library only w3lib, so importing it is cheap.
Its functions are pure, except the file helpers in `files.py`, the asyncio tools in
`concurrency.py` and what `forks.py` does at a fork. Each rule is defined here once and every part
uses that definition: the limits of a request, the code and HTTP status of an error, what counts as
a whole image, the key of a URL. Two URLs share a key only if they request the same thing; the URL
that is fetched is never changed.
"""
