"""Export from a checkpoint of a run."""

import pytest
from helpers import same, weights
from mmengine.config import Config
from tool_helpers import call


@pytest.mark.slow
def test_export_student(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    code, _, error = call(monkeypatch, capsys, 'export_student.py', work_dir / 'epoch_5.pth', tmp_path / 'out')
    assert code == 0, error
    assert same(weights(tmp_path / 'out' / 'student.pth'), weights(work_dir / 'student.pth'))


@pytest.mark.slow
def test_export_student_with_options_for_its_config(run, monkeypatch, capsys, tmp_path):
    _, work_dir, _ = run
    checkpoint = work_dir / 'epoch_5.pth'
    options = ['--cfg-options', 'test_dataloader.dataset.indices=7', 'model.student.head.cal_acc=True']
    code, _, error = call(monkeypatch, capsys, 'export_student.py', checkpoint, tmp_path / 'out', *options)
    assert code == 0, error
    cfg = Config.fromfile(tmp_path / 'out' / 'student.py')
    assert cfg.test_dataloader.dataset.indices == 7 and cfg.model.head.cal_acc
    assert same(weights(tmp_path / 'out' / 'student.pth'), weights(work_dir / 'student.pth'))
    options = ['--cfg-options', 'model.student.backbone.depth.wrong=1']
    code, _, error = call(monkeypatch, capsys, 'export_student.py', checkpoint, tmp_path / 'no', *options)
    assert code == 1 and error.startswith('error: --cfg-options: ') and not (tmp_path / 'no').exists()
