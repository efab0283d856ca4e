"""The commands: `imgcache …`, or `python -m imgcache_scrapy …`.

There is one file for each thing that a user does: `look.py` (stats, get), `upkeep.py` (verify, gc),
`spool.py` (spool list, spool replay) and `serve.py`. `location.py` decides which cache and which
spool a command uses, and `main.py` puts the commands together and reports errors. What must hold:

- Standard output has the result alone. What a command says about itself goes to standard error:
  first the cache or the spool that it uses, and in case of an error one sentence, with an exit
  code other than 0.
- Nothing of the result is cut when standard output is no terminal.
- A command makes no cache where there is none, except for `serve`.
- A command loads only what it needs: one that talks to a service loads neither SQLAlchemy nor
  Pillow nor FastAPI, and only a command that uses a project's cache loads Scrapy.
"""
