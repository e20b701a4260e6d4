"""The prompt-run API: FastAPI over a database of accounts, prompts, media and runs. It starts `pipelines` as processes of
their own, and knows of them only what their run folders say."""
