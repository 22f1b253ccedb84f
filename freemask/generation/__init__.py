"""What synthetic images look like: generators, and the shards of a plan that they fill."""
