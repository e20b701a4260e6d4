"""Fixtures for all tests of this folder."""

import pytest

from promptreel.tables.storage import open_storage


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path):
    """Storage on a local disk and on an object store."""
    return open_storage(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")
