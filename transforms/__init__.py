"""Thin PTransforms, one concept per file: each wires a plain function that does the work."""
