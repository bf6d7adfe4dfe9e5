"""The atlas as pages for a browser: one folder that opens from the disk, without a server and without a network.

A page holds what it shows first; the rest lies beside it in chunks, scripts that each hand over one value, since a page
from the disk may not fetch files. What draws it is in weight_atlas.pages.assets.
"""
