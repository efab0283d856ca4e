"""Names of files by `IMGCACHE_PATH`, for the two drop-ins.

The pure parts are the template, the order of pictures with one path, and the extensions. An index
in the project's data folder remembers which picture has which path, so that the names of the next
crawl are the same. A path never leaves the store of the pipeline, and never replaces another
picture.
"""
