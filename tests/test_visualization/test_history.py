"""The history of a run that a page is drawn from."""

import json

import pytest

from mmsskd.errors import ConfigError
from mmsskd.visualization.history import read_history


def test_history_reads_the_latest_run(tmp_path):
    for stamp, value in (('20260101_000000', 1.0), ('20260102_000000', 2.0)):
        folder = tmp_path / stamp / 'vis_data'
        folder.mkdir(parents=True)
        records = [dict(loss=9.0, step=3), dict(accuracy=value, step=1), dict(accuracy=value + 1, step=2)]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
    history = read_history(tmp_path)
    assert history.series('accuracy') == ([1, 2], [2.0, 3.0]) and history.last('accuracy') == 3.0
    with pytest.raises(ConfigError, match="wrote no 'map'"):
        history.last('map')
    with pytest.raises(ConfigError, match='holds no run'):
        read_history(tmp_path / 'elsewhere')
