"""Resume of an interrupted comparison: nothing that a killed run left on disk may stop it, or pass for something else."""

from pathlib import Path

from ..utils.work_dir import newest_checkpoint

WEIGHTS = 'weights'


def keep_newest(work_dir: str | Path) -> None:
    """Remove all checkpoints but that one. A run that goes on has two, one of which is whole while the other is written."""
    newest = newest_checkpoint(work_dir)
    for file in Path(work_dir).glob('epoch_*.pth'):
        if newest is not None and str(file) != newest:
            file.unlink()


def name_weights(work_dir: str | Path, path: str | Path) -> None:
    """Note that the weights of a run, which trained none of its own, are elsewhere."""
    Path(work_dir, WEIGHTS).write_text(str(path))


def weights_of(work_dir: str | Path | None) -> str | None:
    """The weights that a run ended with; None where it has not, or where they are gone."""
    if work_dir is None:
        return None
    note = Path(work_dir, WEIGHTS)
    path = note.read_text() if note.is_file() else newest_checkpoint(work_dir)
    return path if path and Path(path).is_file() else None
