"""Who maps over the shards. An engine is a function with map's signature; all engines give the same integers."""
