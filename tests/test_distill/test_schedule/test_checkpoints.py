"""Which checkpoint a run goes on from: a whole one, here and not where the folder once was."""

import zipfile
from pathlib import Path

import pytest

from mmsskd.distill.schedule.checkpoints import checkpoint_to_resume, newest_checkpoint


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
