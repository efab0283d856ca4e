"""The page of the service: a cache in a browser, at `/` and below `/ui/`.

`routes.py` adds the routes: those of the grid are in `grid.py`, whose address `grid_query.py`
reads, and the others in `picture.py`, `compare.py`, `acts.py`, `downloads.py`, `state.py` and
`signing_in.py`. `access.py` decides who may look and who may act, and `pages.py` makes HTML of
templates, which escape every value. `tiles.py`, `texts.py`, `results.py` and `plots.py` compute
what they show. `state_keeper.py` keeps the sums of the state page, `spool.py` counts what waits in
a spool, and `assets.py` serves the stylesheet and the script.

What must hold: every text that the page shows comes from strangers, so that no template marks a
value as safe, and no route writes HTML. The browser runs our one script only, asks no other host,
and shows an original only as an image. Everything works without the script.
"""
