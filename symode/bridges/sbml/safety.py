"""What is checked before a file from elsewhere is given to a parser.

Entity declarations (bombs, and paths to other files), absurd sizes and absurd nesting are refused
quickly, in bounded memory; nothing of the file is executed, here or later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from symode.errors import ImportFileError

#: Bytes, nesting of elements, and elements beyond which a file is refused.
MOST_BYTES: Final = 64 * 2**20
DEEPEST: Final = 600
MOST_ELEMENTS: Final = 3_000_000
#: Characters of one comment, attributes of one element, and namespaces declared at one place:
#: libSBML takes a time that grows with the square of each.
MOST_COMMENT: Final = 2**20
MOST_ATTRIBUTES: Final = 500
MOST_NAMESPACES: Final = 1000


def read_text(source: Any) -> tuple[bytes, str]:
    """Return the content and the name of a file, or of text that is XML itself.

    Raises
    ------
    ImportFileError
        When there is no such file, or it is too large.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        raise ImportFileError(f"read_sbml takes the path of a file, or its text; got {source!r}.")
    path = path_of(source)
    if path is None:
        content = source if isinstance(source, bytes) else str(source).encode()
        name = "the text"
    else:
        name = str(path)
        try:
            if path.exists() and not path.is_file():
                # A pipe or a device may never end.
                raise ImportFileError(f"{name} cannot be read: it is no file.")
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise ImportFileError(f"{name} has {size / 2**20:.0f} MB; at most 64 are read.")
            content = path.read_bytes()
        except OSError as error:
            raise ImportFileError(f"{name} cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise ImportFileError(f"{name} has {len(content) / 2**20:.0f} MB; at most 64 are read.")
    return content, name


def path_of(source: str | bytes | os.PathLike[str]) -> Path | None:
    """Return the path that a source is, or None where it is the content itself."""
    if isinstance(source, bytes) or (
        isinstance(source, str) and source.lstrip("\ufeff \t\r\n")[:1] == "<"
    ):
        return None
    return Path(source)


def decoded(content: bytes, name: str) -> str:
    """Return the text of a file.

    Raises
    ------
    ImportFileError
        When it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportFileError(
            f"{name} is not UTF-8, as SBML is to be (byte {error.start}); save it in UTF-8."
        ) from None


def check_xml(content: bytes, name: str) -> None:
    """Raise unless the content is XML without declarations of entities, of bounded nesting.

    Raises
    ------
    ImportFileError
        With line and column.
    """
    depth = elements = 0
    declared: list[int] = [0]
    digits: list[str] | None = None
    parser = expat.ParserCreate()

    def refuse(reason: str) -> None:
        raise ImportFileError(
            f"{name}, line {parser.CurrentLineNumber}: {reason}. Such files are refused."
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements, digits
        depth += 1
        elements += 1
        if depth > DEEPEST:
            refuse(f"elements are nested more than {DEEPEST} deep")
        if elements > MOST_ELEMENTS:
            refuse(f"there are more than {MOST_ELEMENTS} elements")
        if len(attributes) > MOST_ATTRIBUTES:
            refuse(f"an element has more than {MOST_ATTRIBUTES} attributes")
        declared.append(declared[-1] + sum(key.startswith("xmlns:") for key in attributes))
        if declared[-1] > MOST_NAMESPACES:
            refuse(f"more than {MOST_NAMESPACES} namespaces are declared")
        local = tag.rpartition(":")[2]
        if local == "cn":
            digits = [] if attributes.get("type", "real") in ("integer", "rational") else None
            if attributes.get("base", "10").strip() != "10":
                refuse("a number is not in base 10")
        elif digits is not None:
            digits.append(" ")

    def end(tag: str) -> None:
        nonlocal depth, digits
        depth -= 1
        declared.pop()
        if digits is not None and tag.rpartition(":")[2] == "cn":
            for part in "".join(digits).split():
                # libSBML would take the nearest it has, without a word.
                if len(part.lstrip("+-0")) > 9 and not -(2**31) < _whole(part) < 2**31:
                    refuse(f"the integer {part[:40]} has more than 32 bits (write it as a real)")
            digits = None

    def characters(data: str) -> None:
        if digits is not None:
            digits.append(data)

    def comment(data: str) -> None:
        if len(data) > MOST_COMMENT:
            refuse(f"a comment has more than {MOST_COMMENT} characters")

    parser.CommentHandler = comment
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = lambda *_: refuse("a document type is declared")
    parser.EntityDeclHandler = lambda *_: refuse("an entity is declared")
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ImportFileError(f"{name} is not XML: {error}.") from None


def _whole(text: str) -> float:
    """Return a whole number, as a float where it is long: only its size is looked at."""
    try:
        return float(text)
    except ValueError:
        return 0.0
