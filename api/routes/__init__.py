"""Thin routes, one module for each kind of resource: they read the request, call a plain function, word the answer."""
