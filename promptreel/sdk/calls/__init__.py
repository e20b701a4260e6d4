"""Build the request of each SDK method: one module per resource, one function per method.

Arguments are documented on the methods in `promptreel.sdk.resources`.
"""
