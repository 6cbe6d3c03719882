"""The files of a PEtab problem: found, bounded, and read into tables.

A problem from elsewhere is untrusted: its files must lie in its own folder, are of bounded size,
and nothing of them is executed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TextIO

from symode.bridges.petab.cells import Columns, Rows
from symode.errors import ImportFileError, MissingExtraError

#: Bytes of the file that lists the others, of one table; rows of all tables of one kind.
MOST_YAML: Final = 2**17
DEEPEST_YAML: Final = 20
MOST_TABLE: Final = 64 * 2**20
#: Bytes of all files together, those included that only writing back needs.
MOST_BYTES: Final = 256 * 2**20
MOST_ROWS: Final = 1_000_000
#: Cells of all tables of one kind; characters of one line.
MOST_CELLS: Final = 4_000_000
MOST_LINE: Final = 2**20
MISSING: Final = "Reading PEtab needs the petab library: install the extra, symode-adjoint[petab]."


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a problem, and its model's text.

    Parameters
    ----------
    name
        Of the file that lists the others.
    measurements
        {column: cells}, times and measurements as arrays.
    observables, parameters
        {id: {column: cell}}.
    sbml, sbml_name
        The model.
    files
        {name: content} of all files, first the one that lists the others.
    parameter_files
        Names of the parameter tables.
    """

    name: str
    measurements: Columns
    observables: dict[str, dict[str, Any]]
    parameters: dict[str, dict[str, Any]]
    sbml: bytes
    sbml_name: str
    files: dict[str, bytes] = field(default_factory=dict)
    parameter_files: tuple[str, ...] = ()

    def estimated(self, name: str) -> bool:
        """Whether a parameter is to be estimated."""
        return bool(self.parameters[name]["estimate"])


def read_tables(source: Any) -> Tables:
    """Return the tables of a problem of version 1 or 2.

    Raises
    ------
    ImportFileError
        Naming the file that is missing, too large, outside the folder, or no table of its kind.
    """
    from symode.bridges.petab.tables1 import read_tables1
    from symode.bridges.petab.tables2 import read_tables2

    path = Path(source)
    content = read_yaml(path)
    read = read_tables2 if version_of(path, content) == 2 else read_tables1
    tables = read(path, content)
    files = {path.name: path.read_bytes()}
    size = 0
    for name in _names_of(content):
        try:
            file = inside(path, path.resolve().parent, name)
        except ImportFileError:
            # Of no kind that is read, or reading would have ended there: plots, for instance.
            continue
        size += 0 if name in files else file.stat().st_size
        if size > MOST_BYTES:
            raise ImportFileError(
                f"{path} lists files of more than {MOST_BYTES // 2**20} MB together."
            )
        files[name] = file.read_bytes()
    given = content.get("parameter_files", content.get("parameter_file"))
    parameters = tuple(given) if isinstance(given, list) else (str(given),)
    return replace(tables, files=files, parameter_files=parameters)


def _names_of(content: dict[str, Any]) -> list[str]:
    """Return the names of all files that a problem lists."""
    lists = [content, *(entry for entry in content.get("problems") or ())]
    found: list[str] = []
    for entry in lists:
        for key, given in entry.items():
            if key.endswith(("_file", "_files")) and key not in ("model_files",):
                found += [name for name in (given if isinstance(given, list) else [given]) if name]
    for model in (content.get("model_files") or {}).values():
        found.append(model["location"])
    return found


def version_of(path: Path, content: dict[str, Any]) -> int:
    """Return the version of the format, 1 or 2.

    Raises
    ------
    ImportFileError
        For any other.
    """
    given = content.get("format_version", "")
    version = str(given).removeprefix("v").split(".")[0]
    if version not in ("1", "2"):
        raise ImportFileError(
            f"{path} has the format_version {given or 'missing'!r}; version 1 and 2 are supported."
        )
    return int(version)


def _is_deep(text: str) -> bool:
    """Whether lists in lists go deep: the parser takes a time that grows with the square of it."""
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > DEEPEST_YAML:
                return True
        elif character in "]}":
            depth -= 1
    return re.search(rf"^[ ]*(?:[-?:]\s+){{{DEEPEST_YAML},}}", text, re.MULTILINE) is not None


def _lines(stream: TextIO, file: Path) -> Iterator[str]:
    """Return the lines of a file, none of which may be endless."""
    while line := stream.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise ImportFileError(f"{file} has a line of more than {MOST_LINE} characters.")
        yield line


def read_rows(
    path: Path, folder: Path, names: Sequence[Any], columns: Sequence[str], what: str
) -> Rows:
    """Return the rows of all files of one kind, every cell as a text without spaces around it.

    Raises
    ------
    ImportFileError
        Naming the file that lacks one of these columns, or has rows of another length.
    """
    rows: Rows = []
    for name in names:
        file = inside(path, folder, name)
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(_lines(stream, file), delimiter="\t")
                head = [cell.strip() for cell in next(reader, [])]
                missing = [column for column in columns if column not in head]
                if missing or len(set(head)) < len(head):
                    reason = (
                        f"has no column {', '.join(missing)}" if missing else "repeats a column"
                    )
                    raise ImportFileError(f"{file} is no table of {what}: it {reason}.")
                for line in reader:
                    if not any(cell.strip() for cell in line):
                        continue
                    if len(line) > len(head):
                        raise ImportFileError(
                            f"{file}, line {reader.line_num}: {len(line)} cells under "
                            f"{len(head)} columns."
                        )
                    cells = [cell.strip() for cell in line] + [""] * (len(head) - len(line))
                    rows.append(dict(zip(head, cells, strict=True)))
                    if len(rows) > MOST_ROWS or len(rows) * len(head) > MOST_CELLS:
                        raise ImportFileError(
                            f"{path}: the tables of {what} have more than {MOST_ROWS} rows or "
                            f"{MOST_CELLS} cells."
                        )
        except (csv.Error, UnicodeDecodeError) as error:
            raise ImportFileError(f"{file} is no table of {what}: {_brief(error)}.") from None
    return rows


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of the file that lists the others.

    Raises
    ------
    ImportFileError
        When it is too large, no YAML, or has aliases or tags.
    MissingExtraError
        Without PyYAML, which the extra ``petab`` installs.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(MISSING) from error
    try:
        size = path.stat().st_size
        if size > MOST_YAML:
            raise ImportFileError(
                f"{path} has {size // 1024} kB; a file that lists others is read up to "
                f"{MOST_YAML // 1024}."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ImportFileError(f"{path} is not text in UTF-8.") from None
    if _is_deep(text):
        raise ImportFileError(f"{path} is nested more than {DEEPEST_YAML} deep.")
    try:
        # Aliases let a short text stand for an endless one; no problem needs them.
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.TagToken):
                raise ImportFileError(
                    f"{path}, line {token.start_mark.line + 1}: aliases and tags are refused."
                )
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ImportFileError(f"{path} is not YAML: {_brief(error)}.") from None
    if not isinstance(content, dict):
        raise ImportFileError(f"{path} must hold a mapping: format_version, parameter_file, ...")
    return content


def inside(path: Path, folder: Path, name: Any) -> Path:
    """Return a file of the problem's folder.

    Raises
    ------
    ImportFileError
        For addresses, absolute paths, and paths that leave the folder.
    """
    if not isinstance(name, str) or not name.strip():
        raise ImportFileError(f"{path} names a file as {name!r}; a file name is expected.")
    parts = re.split(r"[/\\]", name)
    if ":" in name or name.startswith(("/", "\\", "~")) or ".." in parts:
        raise ImportFileError(
            f"{path} names the file {name!r}: only files in the problem's own folder are read, "
            "by relative names without '..'."
        )
    file = folder / name
    resolved = file.resolve()
    if not resolved.is_relative_to(folder):
        raise ImportFileError(f"{path} names the file {name!r}, which leads out of its folder.")
    if not resolved.is_file():
        raise ImportFileError(f"{path} names the file {name!r}, which there is not.")
    size = resolved.stat().st_size
    if size > MOST_TABLE:
        raise ImportFileError(f"{file} has {size / 2**20:.0f} MB; at most 64 are read.")
    return file


def only(given: Any, what: str) -> Any:
    """Return the one entry of a list.

    Raises
    ------
    ImportFileError
        When there are more, or none.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 1:
        count = len(given) if isinstance(given, Sequence) and not isinstance(given, str) else 0
        raise ImportFileError(f"{what} must list exactly one entry; it lists {count}.")
    return given[0]


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
