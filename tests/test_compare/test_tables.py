"""Tables of a comparison, as text and in Markdown."""

from mmsskd.compare.statistics import GapClosed
from mmsskd.compare.tables import Row, Table, to_markdown, to_text


def test_text_of_a_table():
    rows = [
        Row(name='teacher', scores=(90.0, 92.0), epochs=(30,), seconds=None, parameters=1000),
        Row(
            name='a',
            scores=(80.0, 82.0),
            epochs=(2, 3),
            seconds=12.3,
            parameters=10,
            plain='p',
            gap=GapClosed(0.5, 0.25, 1.0),
        ),
        Row(
            name='b',
            scores=(80.0, 82.0),
            epochs=(5,),
            seconds=1.0,
            parameters=10,
            plain='p',
            gap=GapClosed(None, reason='why'),
        ),
    ]
    text = to_text(Table('equal epochs', rows, 2))
    assert '91.00 ± 1.41' in text and '50 % [25, 100]' in text and '2 + 3' in text
    assert '| a | 81.00 ± 1.41 | 50 % [25, 100] | 2 + 3 | 12 | 10 |' in to_markdown([Table('equal epochs', rows, 2)])
    assert 'not quoted' in text and text.endswith('(no share of the gap is quoted: why)')


def test_names_with_signs_keep_their_row_in_markdown():
    rows = [Row('a | b <i>', (50.0,), (4,), 1.0, 10)]
    line = to_markdown([Table('equal epochs', rows, 1)]).splitlines()[-1]
    assert line == r'| a \| b \<i\> | 50.00 |  | 4 | 1 | 10 |'
