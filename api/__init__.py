"""The prompt-run API: FastAPI over a database of accounts, prompts, media and runs.

It starts each pipeline as a separate process and communicates with it only through its run folder.
"""
