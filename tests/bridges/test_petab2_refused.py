"""read_petab, version 2: what is wrong, unsafe or without bound is refused with a reason."""

from __future__ import annotations

import pytest

import symode
from symode.errors import ImportFileError
from tests.bridges.petab_files import YAML, sbml, write

pytest.importorskip("libsbml")
pytest.importorskip("yaml")

DECAY = {"parameters": {"k": 0.7, "u": 0.0, "x": 2.0}, "rates": {"x": "u - k * x"}}
K = "k 0.1 5 0.7 true"
GOOD = {
    "parameters": K,
    "conditions": "feed u 1",
    "experiments": "a 0 feed",
    "measurements": "obs a 1 1.1",
    "observables": "obs x 0.1",
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"yaml": YAML + "extensions: {sciml: {version: 1}}"}, "sciml"),
        ({"yaml": YAML.replace("model.xml}", "model.xml}, b: {language: sbml}")}, "exactly one"),
        ({"yaml": YAML.replace("language: sbml", "language: pysb")}, "'pysb'"),
        ({"yaml": YAML.replace("model.xml", "../model.xml")}, "own folder"),
        ({"yaml": YAML.replace("[measurements.tsv]", "[/etc/passwd]")}, "own folder"),
        ({"yaml": YAML.replace("[mapping.tsv]", "['http://x.org/a.tsv']")}, "own folder"),
        ({"yaml": YAML.replace("[conditions.tsv]", "&a [conditions.tsv]\nid: *a")}, "aliases"),
        ({"yaml": YAML.replace("[observables.tsv]", "[model.xml]")}, "no table of"),
        ({"yaml": YAML.replace("2.0.0", "3.0.0")}, "version 1 and 2"),
        ({"observables": "obs x.__class__ 0.1"}, "is no formula"),
        ({"observables": "obs __import__(x) 0.1"}, "no function"),
        ({"observables": f"obs {'(' * 5000}x{')' * 5000} 0.1"}, "nested"),
        ({"observables": "obs x -1"}, "must be positive"),
        ({"observables": "obs obs+x 0.1"}, "through itself"),
        ({"observables": "obs other+x 0.1\nother obs 0.1"}, "through itself"),
        ({"observables": "obs x+unknown 0.1"}, "'unknown'"),
        ({"observables": "+ noiseDistribution\nobs x 0.1 cauchy"}, "'cauchy'"),
        ({"conditions": "feed u u.real"}, "is no formula"),
        ({"conditions": "feed u y"}, "'y'"),
        ({"conditions": "feed u x"}, "'x'|no parameter"),
        ({"conditions": "feed k 1"}, "is in the parameter table"),
        ({"conditions": "feed u 1\nfeed u 2"}, "sets u twice"),
        ({"experiments": "a 0 fed"}, "'fed'"),
        ({"experiments": "a inf feed"}, "finite or -inf"),
        (
            {"conditions": "feed u 1\nmore u 2", "experiments": "a 0 feed\na 0 more"},
            "more than one",
        ),
        ({"experiments": "a 2 feed"}, "starts at 2"),
        ({"measurements": "obs b 1 1.1"}, "experiment b"),
        ({"measurements": "other a 1 1.1"}, "other"),
        ({"measurements": "obs a -inf 1.1"}, "-inf"),
        ({"measurements": "obs a 1 nan"}, "NaN"),
        ({"measurements": "obs a inf 1.1", "observables": "obs x*time 0.1"}, "depends on time"),
        ({"parameters": "k 0.1 5 0.7 yes"}, "true or false"),
        ({"parameters": "k 5 0.1 0.7 true"}, "lowerBound <= upperBound"),
        ({"parameters": "k 0.1 5 - false"}, "finite nominalValue"),
        ({"parameters": "+ priorDistribution priorParameters\nk 0.1 5 1 true flat 1;2"}, "'flat'"),
        ({"parameters": "+ priorDistribution priorParameters\nk 0.1 5 1 true normal 1"}, "takes 2"),
        ({"parameters": "+ priorDistribution priorParameters\nk 0 1 1 true uniform 2;3"}, "mass"),
        ({"mapping": "k.x u\nk.x u"}, "no identifier"),
    ],
)
def test_a_file_that_is_wrong_or_unsafe_is_refused_with_a_reason(
    tmp_path, changes, message
) -> None:
    path = write(tmp_path, sbml(**DECAY), **(GOOD | changes))
    with pytest.raises(ImportFileError, match=message):
        symode.read_petab(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 50_000, "nested more than"),
        ("{a: " * 30_000, "nested more than"),
        ("- " * 50_000, "nested more than"),
        ("\n".join(" " * i + "a:" for i in range(450)), "is not YAML|format_version"),
        ("a: [" + "1," * 200_000 + "]", "kB"),
        ("just a text", "must hold a mapping"),
        ("a: !!python/object/apply:os.getcwd []", "tags are refused"),
    ],
)
def test_a_file_that_lists_others_is_bounded_before_it_is_parsed(tmp_path, text, message) -> None:
    path = tmp_path / "problem.yaml"
    path.write_text(text)
    with pytest.raises(ImportFileError, match=message):
        symode.read_petab(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("observables", "observableId" + "\tx" * 600_000, "a line of more than"),
        ("measurements", "observableId\ttime\tmeasurement\n" + "a\t1\t2\t3\n", "4 cells under 3"),
        ("conditions", "conditionId\ttargetId\ttargetId\n", "no column|repeats"),
        ("parameters", "parameterId\testimate\n\xff", "no table of|UTF|utf"),
    ],
)
def test_a_table_that_is_none_is_refused_before_it_fills_the_memory(
    tmp_path, name, text, message
) -> None:
    path = write(tmp_path, sbml(**DECAY), **GOOD)
    path.with_name(f"{name}.tsv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ImportFileError, match=message):
        symode.read_petab(path)


def test_more_periods_than_can_be_compiled_are_refused(tmp_path) -> None:
    periods = "\n".join(f"a {i} feed" for i in range(3000))
    tables = GOOD | {"experiments": periods, "measurements": "obs a 5000 1.1"}
    with pytest.raises(ImportFileError, match="2999 events"):
        symode.read_petab(write(tmp_path, sbml(**DECAY), **tables))
