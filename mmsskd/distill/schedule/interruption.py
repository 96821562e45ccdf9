"""Interruption: a run that is asked to end, as a cluster asks that pre-empts it, ends where it can go on to the bit.

SIGTERM, SIGUSR1 and SIGHUP ask. A run that counts iterations finishes its iteration, saves a checkpoint and ends. One that counts
epochs resumes at the beginning of an epoch: at the end of one it saves, within one it ends at once, and the checkpoint of the last
epoch that was saved stays as it is. The exit code is 128 and the number of the signal, as of a process that the signal has killed.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ...utils.files import write_text
from ...utils.work_dir import newest_checkpoint
from .mmengine_private import save_on_this_rank

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
GRACE = 25  # seconds that another rank waits to be ended with the first one, which saves
_asked: list[int] = []
_before: dict[int, Any] = {}


def watch_signals() -> None:
    """Note signals from now on, in place of being killed by them. One that is ignored, as under ``nohup``, stays so."""
    _asked.clear()
    owner = os.getpid()

    def note(number: int, frame) -> None:
        if os.getpid() != owner:  # a worker of a data loader has inherited this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not is_main_process():
            signal.alarm(GRACE)  # it goes on, as the first rank needs it to finish the iteration
        _asked.append(number)

    for number in SIGNALS:
        try:
            if number not in _before and signal.getsignal(number) != signal.SIG_IGN:
                _before[number] = signal.signal(number, note)
        except ValueError:  # outside the main thread nothing can be noted
            return


def ignore_signals_no_more() -> None:
    """Let signals do again what they did before :func:`watch_signals`."""
    _asked.clear()
    while _before:
        number, handler = _before.popitem()
        signal.signal(number, handler)


def asked() -> int | None:
    """The signal that has asked the run of this process to end, if one has."""
    return _asked[0] if _asked else None


def end_if_asked(runner: Runner, by_epoch: bool, within: bool) -> None:
    """End the process where a signal has asked for it; on the first rank, which the others follow.

    Args:
        runner: Between two iterations, with all of the last one done.
        by_epoch: Whether the run counts epochs.
        within: Whether an epoch of such a run has begun, so that a checkpoint could not be resumed to the bit.

    Raises:
        SystemExit: With code 128 and the number of the signal.
    """
    number = asked()
    if number is None or not is_main_process():
        return
    done, unit = (runner.epoch, 'epoch') if by_epoch else (runner.iter, 'iter')
    name = f'{unit}_{done}.pth'
    if not within and done and not Path(runner.work_dir, name).is_file():
        save_on_this_rank(runner, name, dict(epoch=runner.epoch, iter=runner.iter))
        write_text(Path(runner.work_dir, 'last_checkpoint'), os.path.join(runner.work_dir, name))
    last = newest_checkpoint(runner.work_dir)
    way = f'--resume goes on from {last}' if last else 'nothing was saved yet, so it begins anew'
    lost = f', epoch {done + 1} begins anew' if within and last else ''
    print(f'ended by {signal.Signals(number).name}: {way}{lost}', file=sys.stderr, flush=True)
    sys.exit(128 + number)
