"""What things are: ids, media time, records and their Arrow schemas, prompts, settings and errors.

Nothing here imports another promptreel package, Beam, or a model library.
"""
