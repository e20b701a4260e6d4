"""The run folder: its layout, the operation cache, Parquet parts, manifests and their reader. Does not import Beam."""
