"""History of a finished run: its scalars and its phases."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..distill.build import read_checkpoint
from ..errors import ConfigError


@dataclass(frozen=True)
class History:
    """The records of one work dir, of its latest run.

    Attributes:
        records: The lines of ``scalars.json``, in order of writing.
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
    """Read the latest run in ``work_dir``; ``checkpoint``, a file in it, tells the phases."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise ConfigError(f'{work_dir} holds no run (no */vis_data/scalars.json)')
    records = [json.loads(line) for line in files[-1].read_text().splitlines()]
    phases = []
    if checkpoint is not None:
        loaded = read_checkpoint(str(Path(work_dir) / checkpoint), 'checkpoint')
        phases = loaded.get('stage_schedule', {}).get('phases', [])
    return History(records, phases)
