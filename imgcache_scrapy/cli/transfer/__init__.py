"""Move images into a cache and out of it, for people: folders, feeds, manifests and data sets.

What must hold: a path of a feed or a manifest counts only if it leads to a regular file inside of
the folder. No pickle is loaded as it is. Memory is bounded: what is to do is a list in a temporary
database. Repeating an import or an export stores nothing twice, and goes on where it stopped.
"""
