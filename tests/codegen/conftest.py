from __future__ import annotations

import pytest

from symode.codegen import store


@pytest.fixture(autouse=True)
def fresh_store(tmp_path_factory, monkeypatch):
    """Give every test an empty store, and let it see its own warnings."""
    folder = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("SYMODE_CACHE_DIR", str(folder))
    monkeypatch.setattr(store, "_warned", set())
    return folder / "kernels"
