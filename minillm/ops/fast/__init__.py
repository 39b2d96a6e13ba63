"""The CPU's default backend: the same mathematics in cache-sized pieces, held to the same tests."""
