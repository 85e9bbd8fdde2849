"""The prepared dataset: Parquet shards and their manifest, written in pieces, read as memory maps."""
