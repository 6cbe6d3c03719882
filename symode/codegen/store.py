"""The on-disk store of compiled kernels: object files that any process of this machine may load.

An entry is named by everything that decides its content. It is written to a temporary file and
moved into place, so a reader sees a whole entry or none; a checksum inside finds the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"symode-kernels-1\n"


@dataclass(frozen=True)
class Entry:
    """Machine code of a bundle with what is needed to load and call it.

    Examples
    --------
    >>> Entry(b"code", work_size=0, n_hoisted=0, n_outputs={"f": 1}, externals=("sin",)).n_outputs
    {'f': 1}
    """

    object_code: bytes
    work_size: int
    n_hoisted: int
    n_outputs: dict[str, int]
    externals: tuple[str, ...]


def store_folder() -> Path:
    """Return the folder of the store: ``SYMODE_CACHE_DIR``, else the user's cache folder.

    Examples
    --------
    >>> store_folder().name
    'kernels'
    """
    chosen = os.environ.get("SYMODE_CACHE_DIR")
    if chosen:
        return Path(chosen) / "kernels"
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "symode" / "kernels"


def load_entry(key: str) -> Entry | None:
    """Return the entry of this key; None, with a warning when damaged, if there is none.

    Examples
    --------
    >>> load_entry("no such key") is None
    True
    """
    try:
        path = store_folder() / key
        content = path.read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None
    head = len(MAGIC) + 32
    payload = content[head:]
    sound = content.startswith(MAGIC) and content[len(MAGIC) : head] == _checksum(key, payload)
    if not sound:
        _warn_once(f"the stored kernel {path.name[:12]}… is damaged; compiling it again")
        return None
    length = int.from_bytes(payload[:8], "little")
    meta = json.loads(payload[8 : 8 + length])
    meta["externals"] = tuple(meta["externals"])
    return Entry(object_code=payload[8 + length :], **meta)


def save_entry(key: str, entry: Entry) -> None:
    """Write an entry; a store that cannot be written costs a warning, not the result.

    Examples
    --------
    >>> import tempfile, unittest.mock
    >>> entry = Entry(b"code", 0, 0, {"f": 1}, ())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with unittest.mock.patch.dict(os.environ, SYMODE_CACHE_DIR=folder):
    ...         save_entry("key", entry)
    ...         load_entry("key") == entry
    True
    """
    meta = asdict(entry)
    del meta["object_code"]
    text = json.dumps(meta).encode()
    payload = len(text).to_bytes(8, "little") + text + entry.object_code
    try:
        folder = store_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + _checksum(key, payload) + payload)
            os.replace(temporary, folder / key)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, RuntimeError) as error:
        _warn_once(f"compiled kernels cannot be stored ({error}); they are compiled each time")


def _checksum(key: str, payload: bytes) -> bytes:
    # With the key inside, an entry renamed to another key is refused too.
    return hashlib.sha256(key.encode() + payload).digest()


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(f"symode store: {message}", RuntimeWarning, stacklevel=4)
