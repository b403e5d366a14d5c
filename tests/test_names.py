"""Names as parts of paths, and numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtcheck.names import confidence, fraction, listed, p_value, points, slug, visible


@pytest.mark.parametrize("name", ["resnet50", "fp16", "a.b_c-d", "X" * 60])
def test_harmless_names_are_kept(name):
    assert slug(name) == name


HOSTILE = [
    "../x",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    "😀",
    ".hidden",
    "-rf",
    "a b",
    "a\0b",
    "a\n",
    "C:",
    "é",
    "x" * 500,
    "con/",
    "~",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_one_part_of_a_path(name, tmp_path):
    part = slug(name)
    path = tmp_path / part / "file.json"
    assert path.resolve().parent.parent == tmp_path.resolve()
    assert part.isascii()
    assert 0 < len(part) < 80
    assert part[0] not in ".-~"


def test_different_names_never_share_a_path():
    assert len({slug(name) for name in [*HOSTILE, "a-b", "a:b", "x"]}) == len(HOSTILE) + 3


@given(st.text(max_size=70))
def test_any_name_is_one_part_of_a_path(name):
    part = slug(name)
    assert part == slug(name)
    assert part not in ("", ".", "..")
    assert not set(part) & set("/\\:\0 ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.87, ".870"), (1.0, "1.000"), (0.0, ".000"), (0.9996, "1.000"), (-0.25, "-.250"),
        (None, "undefined"), (math.nan, "undefined"),
    ],
)  # fmt: skip
def test_fraction(value, text):
    assert fraction(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.013, "1.3 points"), (0.0, "0.0 points"), (0.0005, "0.05 points"), (-0.013, "-1.3 points"),
        (0.29, "29.0 points"), (None, "undefined"), (math.nan, "undefined"),
    ],
)  # fmt: skip
def test_points(value, text):
    assert points(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.012, "p = .012"), (1.0, "p = 1.000"), (2e-5, "p = 2.0e-05"), (1e-12, "p < 1e-9"), (0.0, "p < 1e-9")],
)
def test_p_value(p, text):
    assert p_value(p) == text


def test_listed_counts_what_it_leaves_out():
    assert listed("ab") == "'a', 'b'"
    assert listed("abcdefgh") == "'a', 'b', 'c', 'd', 'e' and 3 more"
    assert listed((name for name in "abc"), 2) == "'a', 'b' and 1 more"


def test_a_confidence_is_never_rounded_to_certainty():
    assert [confidence(share) for share in (0.99, 0.999, 0.95, 1 - 1e-9)] == [
        "99 %", "99.9 %", "95 %", "99.9999999 %",
    ]  # fmt: skip


def test_signs_that_turn_the_direction_of_writing_are_told_by_their_codes():
    assert visible("a\u202eb\u2067c שמלה") == "a\\u202eb\\u2067c שמלה"
