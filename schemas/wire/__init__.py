"""Request and response bodies of the prompt-run API, one module per resource type.

Responses contain all fields of all supported client versions; requests accept what any of these clients sends.
"""
