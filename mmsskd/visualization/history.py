"""History of a finished run: its scalars and its phases."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..distill.build import read_checkpoint
from ..errors import ConfigError


@dataclass(frozen=True)
class History:
    """The records of one work dir: of its run, with all the parts in which it was trained.

    Attributes:
        records: The lines of each ``scalars.json``, in order of writing, without those of steps that a later part did again.
        phases: Fingerprints of the phases (:class:`~mmsskd.distill.phases.Phase`); empty for a plain run.
    """

    records: list[dict]
    phases: list[dict]

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps (epochs or iterations) and values of a scalar that validation wrote."""
        rows = [(record['step'], record[name]) for record in self.records if name in record and 'step' in record]
        return [row[0] for row in rows], [row[1] for row in rows]

    def last(self, name: str) -> float:
        """The last value of a scalar.

        Raises:
            ConfigError: It was never written.
        """
        values = [record[name] for record in self.records if name in record]
        if not values:
            raise ConfigError(f'the run wrote no {name!r}')
        return values[-1]


def read_history(work_dir: str | Path, checkpoint: str | None = None) -> History:
    """Read the run in ``work_dir``, however often it was interrupted; ``checkpoint``, a file in it, tells the phases."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise ConfigError(f'{work_dir} holds no run (no */vis_data/scalars.json)')
    records: list[dict] = []
    for part in map(_records, files):
        # training counts iterations, validation may count epochs; at step 0 each part may say what the teacher is worth
        for trains in (True, False):
            again = min((each['step'] for each in part if _trains(each) == trains and each.get('step')), default=None)
            if again is not None:
                records = [each for each in records if _trains(each) != trains or each.get('step', -1) < again]
        records += part
    phases = []
    if checkpoint is not None:
        loaded = read_checkpoint(str(Path(work_dir) / checkpoint), 'checkpoint')
        phases = loaded.get('stage_schedule', {}).get('phases', [])
    return History(records, phases)


def _records(file: Path) -> list[dict]:
    """The lines of a file, without the half of one that a kill may leave at its end."""
    whole, _, _ = file.read_text().rpartition('\n')
    return [json.loads(line) for line in whole.splitlines()]


def _trains(record: dict) -> bool:
    return 'iter' in record
