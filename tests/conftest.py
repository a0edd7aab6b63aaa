"""What all tests share: hypothesis draws the same cases everywhere and minds no slow machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")
