"""Tests that any provider can run, see docs/providers.md. They need pytest."""

import pytest

pytest.register_assert_rewrite("promptreel.testing.provider_conformance")
