"""The base models localsynth knows, where they come from, and how they are fetched and checked.

`catalog` finds, checks and describes them, `fetch` brings them here. Of the rest of localsynth it knows the errors only.
"""
