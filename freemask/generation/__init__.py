"""Generation of synthetic images: generators, and the shards of a plan."""
