"""The library behind the scripts of `hack/`: builds, images, clusters and the demo.

Nothing here ships with the product, and nothing of `hami_dra` imports it.  Its only prerequisites are Python 3.11,
Linux and the wheels of the `dev` extra; everything that it makes lies below one cache directory (`hacklib.paths`).
"""
