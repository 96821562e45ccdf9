"""The history of a run that a page is drawn from."""

import json

import pytest

from mmsskd.errors import ConfigError
from mmsskd.visualization.history import read_history


def test_parts_of_an_interrupted_run_are_one_history(tmp_path):
    """Twelve iterations of four an epoch; killed in the third epoch, which is done again, half a line at the end of its file."""

    def record(step, **values):
        return dict(values, iter=step, step=step)

    first = [
        dict(teacher=9.0, step=0),
        *(record(i, loss=1.0) for i in range(1, 11)),
        *(dict(top1=i, step=i) for i in (1, 2)),
    ]
    second = [dict(teacher=9.0, step=0), *(record(i, loss=2.0) for i in range(9, 13)), dict(top1=3.0, step=3)]
    for stamp, records, end in (('20260101_000000', first, '{"loss": 1'), ('20260102_000000', second, '')):
        folder = tmp_path / stamp / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(''.join(f'{json.dumps(each)}\n' for each in records) + end)
    history = read_history(tmp_path)
    assert history.series('top1') == ([1, 2, 3], [1, 2, 3.0]) and history.last('teacher') == 9.0
    assert history.series('loss') == (list(range(1, 13)), [1.0] * 8 + [2.0] * 4)


def test_history_reads_the_latest_run(tmp_path):
    for stamp, value in (('20260101_000000', 1.0), ('20260102_000000', 2.0)):
        folder = tmp_path / stamp / 'vis_data'
        folder.mkdir(parents=True)
        records = [dict(loss=9.0, step=3), dict(accuracy=value, step=1), dict(accuracy=value + 1, step=2)]
        (folder / 'scalars.json').write_text(''.join(f'{json.dumps(record)}\n' for record in records))
    history = read_history(tmp_path)
    assert history.series('accuracy') == ([1, 2], [2.0, 3.0]) and history.last('accuracy') == 3.0
    with pytest.raises(ConfigError, match="wrote no 'map'"):
        history.last('map')
    with pytest.raises(ConfigError, match='holds no run'):
        read_history(tmp_path / 'elsewhere')
