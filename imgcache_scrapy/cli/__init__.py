"""The commands: `imgcache …`, or `python -m imgcache_scrapy …`.

Each file has the commands for one task, which its first line names, such as `look.py` (stats, get).
`transfer/` does the work of those that move images. `location.py` decides which cache and which
spool a command uses, `options.py` has the options that many commands share, `output.py` prints
tables, `progress.py` shows how far a long command is, and `main.py` puts the commands together and
reports errors. What must hold:

- Standard output contains only the result. Messages go to standard error: first the cache, the
  spool or the project that the command uses, and after an error one sentence. The exit code is
  then not 0.
- If standard output is not a terminal, the result is never shortened.
- Only `serve`, `fetch`, `import` and `copy` create a cache and its folder if there is none.
- A command loads only the libraries that it needs. A command that talks to a service does not load
  SQLAlchemy, Pillow or FastAPI. Only a command that uses the cache of a project loads Scrapy.
"""
