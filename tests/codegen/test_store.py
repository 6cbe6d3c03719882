"""The store: shared by processes, checked on reading, and never in the way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import warnings

import numpy as np
import pytest
from small_kernels import compile_many_times, oscillator_kernels, oscillator_values

from symode.codegen import compiled, store
from symode.codegen.compiled import CompiledModel


def make() -> CompiledModel:
    model = CompiledModel(oscillator_kernels(), 2)
    z, theta = [0.3, -0.8], [1.7, 0.4]
    got = model.call("rhs", 0.9, z, model.pack(np.array(theta)))
    np.testing.assert_allclose(got, oscillator_values(0.9, z, theta), rtol=1e-15)
    return model


def only_entry(folder):
    (path,) = folder.iterdir()
    return path


def test_a_kernel_is_compiled_once(fresh_store):
    assert not make().from_store
    assert make().from_store
    assert len(only_entry(fresh_store).name) == 64


def test_a_stored_model_is_the_same_as_a_compiled_one(fresh_store):
    first, second = make(), make()
    for name in ("n_outputs", "n_p", "work_size", "n_parameters", "signature"):
        assert getattr(first, name) == getattr(second, name)
    assert first.address.keys() == second.address.keys()


def test_different_kernels_have_different_entries(fresh_store):
    make()
    kernels = oscillator_kernels()
    CompiledModel({"rhs": kernels["rhs"]}, 2)
    CompiledModel({"other": kernels["rhs"]}, 2)
    CompiledModel({"rhs": kernels["rhs"]}, 3)
    assert len(list(fresh_store.iterdir())) == 4


@pytest.mark.parametrize("position", [0, 20, 60, 200, -1])
def test_a_flipped_bit_is_found_and_the_entry_replaced(fresh_store, position):
    make()
    path = only_entry(fresh_store)
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="damaged; compiling it again"):
        assert not make().from_store
    assert make().from_store


@pytest.mark.parametrize("length", [0, 10, 40, 49, 57, 300])
def test_a_truncated_entry_is_found(fresh_store, length):
    make()
    path = only_entry(fresh_store)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert not make().from_store
    assert make().from_store


def test_an_entry_under_another_name_is_refused(fresh_store):
    make()
    path = only_entry(fresh_store)
    CompiledModel({"rhs": oscillator_kernels()["rhs"]}, 2)
    (other,) = (p for p in fresh_store.iterdir() if p != path)
    shutil.copy(other, path)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert not make().from_store


def test_the_entry_of_another_processor_is_not_loaded(fresh_store, monkeypatch):
    make()
    machine, identity = compiled._target()
    monkeypatch.setattr(compiled, "_target", lambda: (machine, identity.replace("|", "|other-", 1)))
    assert not make().from_store
    assert make().from_store
    assert len(list(fresh_store.iterdir())) == 2


def test_the_key_names_processor_features_and_compiler():
    import llvmlite
    import llvmlite.binding as llvm

    identity = compiled._target()[1]
    assert llvm.get_host_cpu_name() in identity
    assert llvm.get_host_cpu_features().flatten() in identity
    assert llvmlite.__version__ in identity


def test_a_changed_emitter_starts_afresh(fresh_store, monkeypatch):
    make()
    monkeypatch.setattr(compiled, "_emitter", lambda: "other sources")
    assert not make().from_store


def unwritable(tmp_path, kind: str):
    """Return a folder in which nothing can be made, also for the superuser."""
    if kind == "file":
        path = tmp_path / "file"
        path.write_text("not a folder")
        return path
    return "/proc/symode"


@pytest.mark.parametrize(
    "kind",
    [
        "file",
        pytest.param(
            "proc", marks=pytest.mark.skipif(not os.path.isdir("/proc"), reason="no /proc here")
        ),
    ],
)
def test_an_unwritable_store_costs_one_warning(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("SYMODE_CACHE_DIR", str(unwritable(tmp_path, kind)))
    with pytest.warns(RuntimeWarning, match="cannot be stored") as caught:
        assert not make().from_store
        assert not make().from_store
    assert len(caught) == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions bind ordinary users")
def test_a_read_only_folder_still_serves_what_it_holds(fresh_store):
    make()
    fresh_store.chmod(0o500)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert make().from_store
        with pytest.warns(RuntimeWarning, match="cannot be stored"):
            CompiledModel({"rhs": oscillator_kernels()["rhs"]}, 2)
    finally:
        fresh_store.chmod(0o700)


def test_without_a_home_folder_kernels_are_compiled_in_memory(monkeypatch):
    for name in ("SYMODE_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(store.Path, "home", no_home)
    with pytest.warns(RuntimeWarning, match="cannot be stored"):
        assert not make().from_store


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    assert store.store_folder().name == "kernels"
    monkeypatch.delenv("SYMODE_CACHE_DIR")
    if os.name != "nt":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert store.store_folder() == tmp_path / "symode" / "kernels"
        # Set but empty counts as unset, by the XDG specification.
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert store.store_folder().is_absolute()


def test_a_failed_write_leaves_no_debris(fresh_store, monkeypatch):
    def refuse(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(store.os, "replace", refuse)
    with pytest.warns(RuntimeWarning, match="no space left"):
        assert not make().from_store
    assert list(fresh_store.iterdir()) == []


def test_many_processes_may_compile_the_same_kernel_at_once(fresh_store):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=compile_many_times, args=(barrier, results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    values = [results.get(timeout=60) for _ in range(20)]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    expected = oscillator_values(0.9, [0.3, -0.8], [1.7, 0.4])
    np.testing.assert_allclose(values, np.tile(expected, (20, 1)), rtol=1e-15)
    only_entry(fresh_store)
    assert make().from_store
