"""The recipes, and the process that runs them."""
