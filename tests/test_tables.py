"""Tables in terminals of any width."""

import pytest

from longgen import tables
from longgen.tables import BOLD, RED, Bold, Table


def example(**options):
    table = Table(["pattern", "layers"], ["length", "KV\ncache"], "a title of words", "a caption", **options)
    table.add("sink and window", "all", "131,072", "22.3 GiB")
    table.add("stride", "some of them", "4,096", "")
    return table


def test_as_wide_as_need_be():
    assert example().lines() == [
        "a title of words",
        "                                              KV",
        "pattern          layers         length     cache",
        "---------------  ------------  -------  --------",
        "sink and window  all           131,072  22.3 GiB",
        "stride           some of them    4,096",
        "a caption",
    ]


def test_words_alone_do_not_make_a_line_of_a_file_long():
    table = Table(["stage", "not done"], ["done"])
    table.add("train", ", ".join(["longgen-stride"] * 20), "0 of 20")
    lines = table.lines()
    assert max(map(len, lines)) <= tables.FILE_WIDTH
    assert sum(line.count("longgen-stride") for line in lines) == 20
    many = Table(["name"], [f"number {index}" for index in range(20)])
    many.add("two words", *["131,072"] * 20)
    assert [line.split() for line in many.lines()[2:]] == [["two", "words", *["131,072"] * 20]], "too long anyway"


def test_words_fold_before_anything_else():
    assert example().lines(40)[1:-1] == [
        "                                      KV",
        "pattern    layers       length     cache",
        "---------  ----------  -------  --------",
        "sink and   all         131,072  22.3 GiB",
        "window",
        "stride     some of       4,096",
        "           them",
    ]


def test_columns_that_do_not_fit_stand_below_with_what_tells_the_rows():
    table = Table(["name"], ["first", "second", "third"])
    table.add("a", "1,000,000", "2,000,000", "3,000,000")
    assert table.lines(28) == [
        "name      first     second",
        "----  ---------  ---------",
        "a     1,000,000  2,000,000",
        "",
        "name      third",
        "----  ---------",
        "a     3,000,000",
    ]


def test_a_block_per_row_where_hardly_a_number_fits():
    table = Table(["name"], ["length", "time of\nit", "none"], keys=2)
    table.add("longgen-sink", "131,072", "2,000 ms (1,800-2,200)", "")
    assert table.lines(26) == [
        "longgen-sink, length",
        "131,072",
        "  time of it:",
        "    2,000 ms (1,800-2,200)",
    ]
    assert table.lines(10)[-1] == "    2,000 ms (1,800-2,200)", "whole, however narrow"


def test_numbers_that_belong_together_stay_beside_each_other():
    table = Table(["name", "what"], ["A", "B"], together=True)
    table.add("longgen-sink", "needle", "1,000", "2,000")
    table.add("longgen-sink", "multi-key", "3,000", "4,000")
    assert table.lines(40)[0].split() == ["name", "what", "A", "B"]
    assert table.lines(20) == [
        "      A      B",
        "  -----  -----",
        "longgen-sink, needle",
        "  1,000  2,000",
        "longgen-sink,",
        "multi-key",
        "  3,000  4,000",
    ]
    assert table.lines(12)[:4] == ["longgen-sink,", "needle", "  A: 1,000", "  B: 2,000"]


def test_styles_are_for_terminals():
    table = Table(["name"], ["x", "y"])
    table.add("a", Bold("1"), "2")
    table.add("b", "3", "4", style=RED)
    table.add("in all", "5", "6", style=BOLD)
    assert table.lines()[2:] == ["a       1  2", "b       3  4", "in all  5  6"]
    assert table.lines(styles=True)[2:] == [
        "a       \x1b[1m1\x1b[0m  2",
        "\x1b[1;31mb       3  4\x1b[0m",
        "\x1b[1min all  5  6\x1b[0m",
    ]
    assert not tables.has_styles(), "this is none"


def test_a_row_has_a_cell_per_column():
    with pytest.raises(ValueError, match="1 cells for 4 columns"):
        example().add("x")
