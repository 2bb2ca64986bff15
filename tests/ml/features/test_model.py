"""What is seen in code, text and rows, by the file that lies in every model folder."""

import numpy as np
import pytest

from ml.features.model import as_input, code_features, encode, encode_texts, text_features


def test_a_query_joined_from_strings_is_followed_to_where_it_is_used() -> None:
    found = code_features(
        "def f(db, name):\n"
        '    query = f"SELECT * FROM t WHERE name = {name}"\n'
        "    return db.execute(query)\n"
    )
    assert {"string:joined:sql", "argument:execute:0:joined:sql", "dynamic:execute"} <= found


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ('"SELECT a FROM t WHERE x = " + x', "added:sql"),
        ('"<p>%s</p>" % x', "filled:html"),
        ('"tar czf a.tgz {}".format(x)', "formatted:shell"),
        ('f"https://example.org/{x}"', "joined:url"),
    ],
)
def test_texts_are_known_by_how_they_are_put_together(expression: str, kind: str) -> None:
    assert f"argument:run:0:{kind}" in code_features(f"run({expression})")


def test_calls_keywords_and_imports_are_seen() -> None:
    found = code_features("import pickle\nsubprocess.run(x, shell=True, mode=0o777)\n")
    wanted = {
        "import:pickle",
        "call:subprocess.run",
        "keyword:run:shell=True",
        "keyword:mode=511",
        "node:Call",
    }
    assert wanted <= found


def test_an_indented_method_is_read_like_a_function() -> None:
    assert "node:FunctionDef" in code_features("    def f(self):\n        return 1\n")


@pytest.mark.parametrize("source", ["def f(:", "x" * 10 + "\0", "(" * 500, ""])
def test_what_is_no_python_is_read_by_its_words(source: str) -> None:
    kinds = {name.split(":")[0] for name in code_features(source)}
    assert kinds <= {"word", "words"} or source == ""


def test_text_is_words_pairs_and_parts() -> None:
    found = text_features("Not good")
    assert {"word:not", "words:not good", "part: no", "part:ood "} <= found


def test_each_text_has_length_one() -> None:
    preprocess = {"kind": "text", "vocabulary": ["word:a", "word:b"], "weights": [3.0, 4.0]}
    matrix = encode_texts(preprocess, ["a b", "c", "b b"])
    assert matrix == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0, 1]], np.float32))


def test_an_empty_cell_is_nan_or_an_empty_text() -> None:
    assert np.isnan(as_input("x", [None, 1.0, float("inf")], "number")[:, 0]).tolist() == [
        True,
        False,
        True,
    ]
    assert as_input("c", [None, "a", 3], "category")[:, 0].tolist() == ["", "a", "3"]


def test_a_forgotten_column_is_named() -> None:
    with pytest.raises(ValueError, match="row 2 lacks the column 'x'"):
        encode({"kind": "table", "columns": {"x": "number"}}, [{"x": 1}, {}])


def test_a_text_where_a_number_belongs_is_refused() -> None:
    with pytest.raises(ValueError, match="column 'x' must hold numbers"):
        as_input("x", ["red"], "number")
