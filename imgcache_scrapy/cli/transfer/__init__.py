"""Move images into a cache and out of it, for people: folders, feeds, data sets, caches.

What must hold: a path of a feed or a manifest counts only if it leads to a regular file inside of
the folder. No pickle is loaded as it is. Memory is bounded: what is to do is a list in a temporary
database, or read in pages. Repeating an import, an export or a copy stores nothing twice, and goes
on where it stopped.
"""
