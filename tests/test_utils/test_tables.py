"""Tables as plain text."""

from mmsskd.utils.tables import text_table


def test_columns_are_aligned_and_lines_end_where_their_text_does():
    rows = [['stage', 'ms', 'note'], ['layer1', '12', 'a'], ['neck', '9', '']]
    assert text_table(rows, '<><').splitlines() == ['stage   ms  note', 'layer1  12  a', 'neck     9']


def test_the_last_side_is_that_of_all_columns_after_it():
    assert text_table([['a', 'bb', 'cc'], ['aa', 'b', 'c']]).splitlines() == ['a   bb  cc', 'aa   b   c']


def test_a_cell_is_one_line():
    assert len(text_table([['name'], ['two\nlines']]).splitlines()) == 2
