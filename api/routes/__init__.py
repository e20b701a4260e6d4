"""Thin routes, one module per resource. They parse the request, call a plain function and render the response."""
