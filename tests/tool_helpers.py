"""The command-line tools, called in this process."""

import runpy
import signal
import sys

from helpers import ROOT
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

TOOLS = ROOT / 'tools'
MANAGERS = (DefaultScope, MessageHub, MMLogger, Visualizer)


def write(cfg: Config, path):
    cfg.pop('experiment_name', None)
    cfg.dump(path)
    return path


def call(monkeypatch, capsys, tool, *args):
    """Run a tool in this process; returns exit code, standard output and standard error."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    held = {kind: kind._instance_dict.copy() for kind in MANAGERS}
    of_workers = signal.getsignal(signal.SIGCHLD)
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
        code = 0
    except SystemExit as stop:
        code = stop.code
    finally:  # a run of the same second has the same name: it would log into the stream that pytest closed with this test
        for kind, instances in held.items():
            kind._instance_dict.clear()
            kind._instance_dict.update(instances)
        signal.signal(signal.SIGCHLD, of_workers)  # a tool that fails hears of no more
    captured = capsys.readouterr()
    return code, captured.out, captured.err
