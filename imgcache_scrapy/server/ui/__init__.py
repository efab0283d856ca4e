"""The page of the service: a cache in a browser, at `/` and below `/ui/`.

`routes.py` adds the routes. `access.py` decides who may look and who may act, and `pages.py` makes
HTML of templates, which escape every value. `assets.py` serves the stylesheet and the script.

What must hold: every text that the page shows comes from strangers, so that no template marks a
value as safe, and no route writes HTML. The browser runs our one script only, asks no other host,
and shows an original only as an image. Everything works without the script.
"""
