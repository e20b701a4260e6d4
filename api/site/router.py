"""All pages. None is in the OpenAPI schema: the API is their twin for programs."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends

from promptreel.api.site import item, prompt_run, prompts, run, runs, sign_in, sql, static_files
from promptreel.api.web.forms import check_form

site_router: Final = APIRouter(include_in_schema=False, dependencies=[Depends(check_form)])
for _module in (sign_in, static_files, runs, run, item, sql, prompts, prompt_run):
    site_router.include_router(_module.router)
