"""A work dir belongs to one run at a time, no run is begun over another, and one goes on from a whole checkpoint."""

import contextlib
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import run_cfg
from mmengine.runner import Runner
from tool_helpers import call, write

from mmsskd.errors import ConfigError
from mmsskd.utils.work_dir import checkpoint_to_resume, claim, newest_checkpoint, release


def hold(folder, pipe):
    """In a process of its own: claim the folder, and start another process, as a worker of a data loader that outlives a kill."""
    claim(folder, resuming=False)
    worker = os.fork()
    if worker:
        os.write(pipe, str(worker).encode())
    time.sleep(100)


def test_another_process_is_named_and_a_dead_one_is_no_obstacle(tmp_path):
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            hold(tmp_path, writing)
        finally:
            os._exit(0)
    worker = int(os.read(reading, 20))
    try:
        with pytest.raises(ConfigError, match=rf'another run is in .*: process {process} on \S+, since 20'):
            claim(tmp_path, resuming=True)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        claim(tmp_path, resuming=False)
        claim(tmp_path, resuming=False)  # it is ours
        release(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def test_a_run_is_not_begun_over_another(tmp_path, teacher_path, monkeypatch, capsys):
    """By the hook, as under mmdet's own train.py, and by ours, of a plain run too, before it writes anything there."""
    phases = [dict(train='layer1'), dict(train='head')]

    def cfg(**changes):
        return run_cfg(tmp_path / 'work', teacher_path, hook=dict(phases=phases), **changes)

    (tmp_path / 'work').mkdir()
    torch.save(dict(meta={}), tmp_path / 'work/epoch_2.pth')
    torch.save({}, tmp_path / 'work/student.pth')
    words = 'holds a run, which is finished. To go on with it add --resume'
    with pytest.raises(ConfigError, match=words):
        Runner.from_cfg(cfg()).train()
    os.remove(tmp_path / 'work/student.pth')
    plain = cfg()
    plain.model = plain.model.student
    plain.default_hooks.pop('stage_schedule')
    for file in (write(cfg(), tmp_path / 'config.py'), write(plain, tmp_path / 'plain.py')):
        before = sorted(tmp_path.rglob('*'))
        code, _, error = call(monkeypatch, capsys, 'train.py', file)
        assert code == 1 and 'holds a run, which has come to epoch_2.pth. To go on' in error
        assert sorted(tmp_path.rglob('*')) == before


# -- which checkpoint a run goes on from: a whole one, here and not where the folder once was -----------------------------


def fill(folder: Path, *names: str) -> Path:
    """Write whole files, and of those that end in ! a half."""
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / name.removesuffix('!')
        with zipfile.ZipFile(path, 'w') as file:
            file.writestr('data', 'weights' * 100)
        if name.endswith('!'):
            path.write_bytes(path.read_bytes()[:-30])
    return folder


@pytest.mark.parametrize(
    ('files', 'note', 'found'),
    [
        (['epoch_9.pth', 'epoch_10.pth'], 'epoch_10.pth', 'epoch_10.pth'),
        (['epoch_9.pth', 'epoch_10.pth!'], 'epoch_10.pth', 'epoch_9.pth'),
        (['epoch_9.pth', 'epoch_10.pth'], '', 'epoch_10.pth'),
        (['epoch_9.pth', 'epoch_10.pth', 'epoch_11.pth'], 'epoch_10.pth', 'epoch_10.pth'),  # went back on purpose
        (['epoch_9.pth', 'epoch_10.pth!', 'epoch_11.pth'], 'epoch_10.pth', 'epoch_9.pth'),
        (['iter_90.pth', 'iter_100.pth!'], '', 'iter_90.pth'),
        (['run-3.pth', 'run-4.pth!'], 'run-4.pth', 'run-3.pth'),  # filename_tmpl
        (['phase1_layer1.pth', 'phase2_layer2.pth', 'epoch_4.pth!'], 'epoch_4.pth', 'phase2_layer2.pth'),
        (['best_accuracy_top1_epoch_3.pth', 'student.pth', 'non_finite_iter_3_rank0.pth'], None, None),
        ([], None, None),
    ],
)
def test_the_newest_whole_one(tmp_path, files, note, found):
    """Of a folder that was moved: the note names its file with the old path."""
    folder = fill(tmp_path / 'new', *files)
    if note is not None:
        (folder / 'last_checkpoint').write_text(note and f'/old/place/{note}')
    said = []
    assert checkpoint_to_resume(folder, None, said.append) == (found and str(folder / found))
    assert bool(said) == (found is not None and found != note)


def test_of_a_hook_with_a_folder_of_its_own(tmp_path):
    out = fill(tmp_path / 'out', 'epoch_3.pth')
    work_dir = fill(tmp_path / 'work_dir', 'phase1_layer1.pth')
    (work_dir / 'last_checkpoint').write_text(str(out / 'epoch_3.pth'))
    assert checkpoint_to_resume(work_dir, None, print) == str(out / 'epoch_3.pth')


def test_of_a_file_that_the_user_names(tmp_path):
    folder, said = fill(tmp_path / 'run', 'epoch_1.pth', 'epoch_2.pth!'), []
    for path in ('https://host/epoch_2.pth', str(folder / 'epoch_1.pth'), str(folder / 'epoch_7.pth')):
        assert checkpoint_to_resume('/nowhere', path, said.append) == path and not said
    assert checkpoint_to_resume('/nowhere', str(folder / 'epoch_2.pth'), said.append) == str(folder / 'epoch_1.pth')
    assert said == [f'{folder}/epoch_2.pth is not whole, as after a kill: going on from {folder}/epoch_1.pth']
    (folder / 'epoch_1.pth').unlink()
    assert checkpoint_to_resume('/nowhere', str(folder / 'epoch_2.pth'), print) == str(folder / 'epoch_2.pth')
    assert newest_checkpoint(folder) is None


def test_a_place_where_nobody_can_write(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(
        ConfigError, match=r"work_dir: '\S+file/mine' cannot be written to \(Not a directory\); name another"
    ):
        claim(tmp_path / 'file/mine', resuming=False)
