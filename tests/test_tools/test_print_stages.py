"""The table of stages, without weights or data."""

from helpers import classifier, run_cfg
from tool_helpers import call, write


def test_print_stages(tmp_path, monkeypatch, capsys):
    """Without weights or data. MACs by hand: 9 * in * out * height * width for each 3x3 convolution."""
    cfg = run_cfg(tmp_path, 'nowhere.pth', student=classifier(depth=8, width=1))
    code, out, error = call(monkeypatch, capsys, 'print_stages.py', write(cfg, tmp_path / 'config.py'))
    assert code == 0, error
    rows = [line.split('  ') for line in out.splitlines()]
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    table = {row[0]: row for row in rows}
    stem, block = 9 * 1 * 8 * 64, 9 * 8 * 16 * 64 + 9 * 16 * 16 * 64 + 8 * 16 * 64
    assert table['layer1'][1] == 'conv1 bn1 relu layer1'
    assert table['layer1'][3:6] == ['16x8x8', '8x8x8', '144']  # adapter: 16 * 8, and scale and shift of 8 channels
    assert table['layer1'][6] == f'{(stem + block) / 1000:.3g} K'
    assert table['layer1'][8] == f'{(stem + 2 * block) / 1000:.3g} K'  # the image needs no gradient
    assert table['head'][:3] == ['head', 'head', '650']


def test_print_stages_says_what_a_projector_adds(tmp_path, monkeypatch, capsys):
    cfg = run_cfg(tmp_path, 'absent.pth', student=classifier(depth=8, width=0.25))
    cfg.model.projector = dict(type='mmsskd.BottleneckProjector', reduction=2)
    code, out, error = call(monkeypatch, capsys, 'print_stages.py', write(cfg, tmp_path / 'config.py'))
    assert code == 0, error
    rows = [[cell.strip() for cell in line.split('  ') if cell.strip()] for line in out.splitlines()]
    table = {row[0]: row for row in rows}
    # 16 to 32 channels on 2x2 places: 16*16 + 9*16*16 + 16*32 weights, and two for each channel of the norms
    assert table['of it projector'][1:] == ['neck.projector', '3.2 K', '-', '-', '-', '12.3 K', '-', '-']
    assert table['layer3 (neck.projector)'][3:6] == ['32x2x2', '32x2x2', '-']
