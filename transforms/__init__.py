"""Thin PTransforms, one per file. Each wraps a plain function that does the work."""
