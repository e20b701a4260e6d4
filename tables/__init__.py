"""The run folder: its layout, the operation cache, Parquet parts, manifests, and the reader over them. Beam-free."""
