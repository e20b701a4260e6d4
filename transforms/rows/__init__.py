"""Table rows built from the outcomes of one item: one module per family of tables."""
