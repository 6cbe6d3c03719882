"""Models composed of submodels, flattened by libSBML; other files only from the model's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeAlias

from symode.bridges.sbml.safety import check_xml, decoded, read_text
from symode.errors import ImportFileError

#: The package that is flattened, and those that leave the mathematics as it is.
COMPOSITION: Final = "comp"
HARMLESS: Final = ("l3v2extendedmath", "layout", "render", "groups")
#: Files that one model may be composed of.
MOST_FILES: Final = 100
#: Submodels, counted with those inside them, that one model may hold.
MOST_SUBMODELS: Final = 5000

#: A model definition: the file it is in and its id there ("" for the file's own model).
_Place: TypeAlias = tuple[Path | None, str]


def flatten(document: Any, library: Any, name: str, path: Path | None) -> None:
    """Flatten composed models; refuse packages that change the meaning.

    Parameters
    ----------
    document, library
        The document and the module libsbml.
    name
        The file, in messages.
    path
        Where the file lies: submodels may come from files in its folder. None for a text, which
        has none.

    Raises
    ------
    ImportFileError
        Naming the package, the file or the submodel.
    """
    for i in range(document.getNumPlugins()):
        package = document.getPlugin(i).getPackageName()
        if package == COMPOSITION or package in HARMLESS:
            continue
        if document.getPackageRequired(package):
            raise ImportFileError(
                f"{name} needs the package {package!r} to be understood, which is not supported."
            )
    _refuse_objectives(document, name)
    if not document.isPackageEnabled(COMPOSITION):
        return
    _check_files(document, library, name, path)
    if path is not None:
        document.setLocationURI(f"file:{path.resolve()}")
    before = document.getNumErrors()
    if document.convert(flattening(library)) != library.LIBSBML_OPERATION_SUCCESS:
        reasons = [
            document.getError(i).getMessage().strip().replace("\n", " ")
            for i in range(before, document.getNumErrors())
        ]
        reason = f": {reasons[0][:300]}" if reasons else ""
        raise ImportFileError(f"{name}: its submodels could not be flattened{reason}")


def flattening(library: Any) -> Any:
    """Return the options with which composed models are flattened."""
    properties = library.ConversionProperties()
    properties.addOption("flatten comp", True)
    properties.addOption("performValidation", False)
    properties.addOption("abortIfUnflattenable", "requiredOnly")
    return properties


def _refuse_objectives(document: Any, name: str) -> None:
    """Refuse models whose fluxes are said to be those that are best, not those of laws."""
    model = document.getModel()
    plugin = model.getPlugin("fbc")
    reactions = [model.getReaction(i) for i in range(model.getNumReactions())]
    without_law = [r for r in reactions if not r.isSetKineticLaw()]
    if plugin is not None and plugin.getNumObjectives() and without_law:
        raise ImportFileError(
            f"{name}: the fluxes are the best for the objective "
            f"{plugin.getObjective(0).getId()!r} (package fbc); flux balances are not supported."
        )


def _check_files(document: Any, library: Any, name: str, path: Path | None) -> None:
    """Refuse files outside the folder, what `check_xml` refuses in those inside, and bombs."""
    first = None if path is None else path.resolve()
    waiting: list[tuple[Any, Path | None]] = [(document, first)]
    seen: set[Path | None] = {first}
    parts: dict[_Place, list[_Place]] = {}
    while waiting:
        held, place = waiting.pop()
        plugin = held.getPlugin(COMPOSITION)
        if plugin is None:
            continue
        for i in range(plugin.getNumExternalModelDefinitions()):
            definition = plugin.getExternalModelDefinition(i)
            what = f"{name}: the model definition {definition.getId()!r}"
            found = _inside(definition.getSource(), place, first, what)
            parts[place, definition.getId()] = [(found, definition.getModelRef())]
            if found in seen:
                continue
            seen.add(found)
            if len(seen) > MOST_FILES:
                raise ImportFileError(f"{name} is composed of more than {MOST_FILES} files.")
            content, label = read_text(found)
            check_xml(content, label)
            waiting.append((library.readSBMLFromString(decoded(content, label)), found))
        for i in range(plugin.getNumModelDefinitions()):
            definition = plugin.getModelDefinition(i)
            parts[place, definition.getId()] = _submodels(definition, place)
        main = held.getModel()
        if main is not None:
            parts[place, ""] = _submodels(main, place)
            parts.setdefault((place, main.getId()), parts[place, ""])
    _count((first, ""), parts, name)


def _submodels(model: Any, place: Path | None) -> list[_Place]:
    plugin = model.getPlugin(COMPOSITION)
    count = 0 if plugin is None else plugin.getNumSubmodels()
    return [(place, plugin.getSubmodel(i).getModelRef()) for i in range(count)]


def _count(top: _Place, parts: dict[_Place, list[_Place]], name: str) -> None:
    """Refuse models that hold themselves, or more submodels than anybody writes."""
    total: dict[_Place, int] = {}
    active: list[_Place] = []
    stack = [(top, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            active.remove(node)
            total[node] = 1 + sum(total.get(part, 1) for part in parts.get(node, []))
            if total[node] > MOST_SUBMODELS:
                raise ImportFileError(
                    f"{name}: {node[1] or 'the model'} holds more than {MOST_SUBMODELS} submodels."
                )
        elif node in active:
            raise ImportFileError(f"{name}: the model definition {node[1]!r} holds itself.")
        elif node not in total:
            active.append(node)
            stack += [(node, True), *((part, False) for part in parts.get(node, []))]


def _inside(source: str, place: Path | None, path: Path | None, what: str) -> Path:
    """Return the file that a source names, which lies in the folder of the model."""
    if path is None or place is None:
        raise ImportFileError(
            f"{what} is in the file {source!r}; a text has no folder to look in. Give the path of "
            "the model instead."
        )
    found = (place.parent / source).resolve()
    is_plain = not Path(source).is_absolute() and ":" not in source and "\\" not in source
    if not (is_plain and found.is_relative_to(path.parent)):
        raise ImportFileError(
            f"{what} is in {source!r}; only files in the folder of the model are read."
        )
    return found
