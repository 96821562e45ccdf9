"""Two real processes (gloo): all phases of a detector, the ranks equal to the bit."""

import pytest
import torch
from detection import STAGES, detection_cfg
from helpers import ROOT, same, warm_ranks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('iters', [None, 2])
def test_two_processes(photos, detection_teacher, tmp_path, iters):
    cfg = detection_cfg(tmp_path / 'run', photos, detection_teacher, iters=iters)
    cfg.custom_imports = dict(imports=['rank_dump'], allow_failed_imports=False)
    cfg.custom_hooks = [dict(type='RankDump', folder=str(tmp_path), interval=iters or 1)]
    cfg.default_hooks.checkpoint.interval = 100
    cfg.pop('experiment_name')
    cfg.dump(tmp_path / 'config.py')
    port = 29630 + bool(iters)
    result = warm_ranks(ROOT / 'tools/train.py', tmp_path / 'config.py', port=port, PYTHONPATH=ROOT / 'tests')
    assert result.returncode == 0, (result.stdout + result.stderr)[-5000:]
    ends = [
        sorted(tmp_path.glob(f'step*_rank{rank}.pth'), key=lambda path: int(path.name.split('_')[0][4:]))
        for rank in (0, 1)
    ]
    first, second = [[torch.load(path, map_location='cpu') for path in paths] for paths in ends]
    assert len(first) == len(second) == 6
    for a, b in zip(first, second):
        assert a['wrapper'] == 'MMDistributedDataParallel' and a['find_unused'] is False
        assert same(a['state_dict'], b['state_dict'])
    assert len({step['trains'] for step in first}) == 6  # each phase reduces only what it trains
    assert same(
        first[4]['state_dict'], first[5]['state_dict'], [n for n in first[4]['state_dict'] if n.startswith('backbone')]
    )
    head = 'roi_head.bbox_head.fc_cls.weight'
    assert not torch.equal(first[4]['state_dict'][head], first[5]['state_dict'][head])
    assert (tmp_path / 'run/student.pth').is_file()
    assert (tmp_path / f'run/phase5_{STAGES[-1]}.pth').is_file()
