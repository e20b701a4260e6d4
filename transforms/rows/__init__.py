"""Rows of the run's tables, made from what the operations of one item brought: one module for each family of tables."""
