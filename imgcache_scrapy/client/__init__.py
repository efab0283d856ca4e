"""The client, the only way to a cache: over HTTP to a service, or to an engine in this process.

`AsyncImgCacheClient` checks the arguments and passes each call to a transport: `http.py` for a
service, `embedded.py` for a folder. Both transports return the same entries and raise the same
errors. `ImgCacheClient` has the same methods in blocking form. For a crawl, `resilience.py` adds
a circuit breaker and a spool: if the cache fails, calls fail at once until a probe succeeds, and
an image that cannot be stored is written to disk and stored later. Each call has one deadline,
which starts when the call gets its connection. A spooled image is durable before `store` returns,
and it leaves the spool only when it is stored, or when it is set aside in the folder `refused`.
`admission.py` decides which bodies are whole images; it needs no cache.
"""
