"""All pages. None is in the OpenAPI schema: the API is their twin for programs."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends

from promptreel.api.site import (
    compare,
    docs,
    indexes,
    item,
    keys,
    prompt_run,
    prompts,
    run,
    runs,
    search,
    sign_in,
    sql,
    static_files,
    upload,
)
from promptreel.api.web.forms import check_form

site_router: Final = APIRouter(include_in_schema=False)
for _module in (
    sign_in, static_files, runs, run, item, search, sql, compare, prompts, prompt_run, indexes, keys, upload, docs
):  # fmt: skip
    site_router.include_router(_module.router, dependencies=[Depends(check_form)])
site_router.include_router(upload.files_router)  # checks its form before the first file is written
