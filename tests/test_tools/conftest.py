import pytest


@pytest.fixture(scope='session')
def run(tmp_path_factory, teacher_path):
    """A finished run: config file, work dir."""
    from helpers import run_cfg, warm_python
    from tool_helpers import TOOLS, write

    folder = tmp_path_factory.mktemp('run')
    path = write(run_cfg(folder / 'work', teacher_path, log_level='INFO'), folder / 'config.py')
    options = ('--cfg-options', 'default_hooks.stage_schedule.head.epochs=2')
    result = warm_python(TOOLS / 'train.py', path, *options, cwd=folder)
    assert result.returncode == 0, result.stderr
    return path, folder / 'work', result
