"""Python processes that need not import torch and OpenMMLab's packages again, which takes 6 seconds of CPU: they are forked from
one that has imported them, and nothing of ours. For tests whose subject is what a process does, not how it comes to its modules.

This file is both: the module that tests import, and, run as a script, the process that is forked.
"""

import atexit
import contextlib
import fcntl
import gc
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid

PRELOAD = (
    'matplotlib.backends.backend_agg',
    'matplotlib.pyplot',
    'mmengine.runner',
    'mmpretrain.datasets',
    'mmpretrain.engine',
    'mmpretrain.evaluation',
    'mmpretrain.models',
    'mmpretrain.visualization',
    'mmdet.datasets',
    'mmdet.models',
    'mmdet.evaluation',
)
SERVER = 'MMSSKD_TESTS_WARM'
_lock = threading.Lock()


# -- in the tests ------------------------------------------------------------------------------------------------------


def run(args, cwd, env, timeout) -> subprocess.CompletedProcess:
    """Do what ``subprocess.run([sys.executable, *args])`` does, output as text. First in ``args``: a script, or -c and its text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _start(args, cwd or os.getcwd(), env, out, err) as connection:
            connection.settimeout(timeout)
            pid = int.from_bytes(_receive(connection, 8), 'big')
            try:
                code = int.from_bytes(_receive(connection, 8), 'big', signed=True)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(args, timeout) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return subprocess.CompletedProcess(args, code, *texts)


class Popen:
    """Do what ``subprocess.Popen`` does with a script, for a tool that reads line by line what the script says."""

    def __init__(self, command, **_):
        read, write = os.pipe()
        self.stdout = open(read)  # noqa: SIM115  closed with this
        self._connection = _start(command[1:], os.getcwd(), dict(os.environ), write, write)
        os.close(write)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stdout.close()
        with self._connection as connection:
            self.returncode = int.from_bytes(_receive(connection, 16)[8:], 'big', signed=True)


def forward(args) -> int:
    """Do in a process to fork what this one was started for, with its files and environment; returns the exit code."""
    with _start(args, os.getcwd(), dict(os.environ), 1, 2) as connection:
        return int.from_bytes(_receive(connection, 16)[8:], 'big', signed=True)


def _start(args, cwd, env, out, err) -> socket.socket:
    """Returns a connection that tells the id of the process, and then its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address())
    request = json.dumps(dict(args=args, cwd=str(cwd), env=env)).encode()
    socket.send_fds(
        connection,
        [len(request).to_bytes(8, 'big')],
        [file if isinstance(file, int) else file.fileno() for file in (out, err)],
    )
    connection.sendall(request)
    return connection


def address() -> str:
    """Address of the process to fork, which is started at the first call; those that are forked have it from the environment, and
    xdist's processes share the one of the first that calls, all of which end with the session.
    """
    with _lock:
        if SERVER not in os.environ:
            run = os.environ.get('PYTEST_XDIST_TESTRUNUID') or uuid.uuid4().hex
            folder = os.path.join(tempfile.gettempdir(), f'warm_{run}')
            os.makedirs(folder, 0o700, exist_ok=True)
            path = os.path.join(folder, 'socket')
            with open(os.path.join(folder, 'lock'), 'w') as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not os.path.exists(path):
                    _start_server(folder, path)
            os.environ[SERVER] = path
    return os.environ[SERVER]


def _start_server(folder: str, path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    env['OMP_NUM_THREADS'] = '1'  # read when torch is imported, so not by those that are forked
    read, _ = os.pipe()  # the other end is open as long as this process lives, however it ends
    process = subprocess.Popen(
        [sys.executable, __file__, str(listener.fileno()), str(read)], pass_fds=(listener.fileno(), read), env=env
    )
    os.close(read)

    def end():
        process.terminate()
        process.wait()
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b''
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError('the process to fork has ended')
        data += more
    return data


# -- in the process that is forked -------------------------------------------------------------------------------------


def serve(listener: socket.socket, parent: int) -> dict:
    """Fork at each connection; returns the request in the process that is to serve it, and only there."""
    while True:
        if parent in select.select([listener, parent], [], [])[0]:
            sys.exit()
        connection, _ = listener.accept()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        if os.fork():
            connection.close()
            continue
        listener.close()
        os.close(parent)
        size, files, *_ = socket.recv_fds(connection, 8, 2)
        request = json.loads(_receive(connection, int.from_bytes(size, 'big')))
        pid = os.fork()
        if not pid:
            connection.close()
            for number, file in enumerate(files, 1):
                os.dup2(file, number)
                os.close(file)
            return request
        connection.sendall(pid.to_bytes(8, 'big'))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(code.to_bytes(8, 'big', signed=True))
        os._exit(0)


def main():
    import shortcuts

    path = sys.path[1:]  # without the folder of this file
    sys.path[:] = path
    for name in PRELOAD:
        with contextlib.suppress(ImportError):  # mmdet without mmcv's ops
            __import__(name)
    shortcuts.take()
    for name in ('mmpretrain', 'mmdet'):
        shortcuts.read_metafiles(name)
    shortcuts.sklearn.datasets.load_digits()
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    now = sys.stdout.write_through  # with PYTHONUNBUFFERED; what it wrote to may have been of another kind
    sys.stdout = io.TextIOWrapper(open(1, 'wb', -(not now), closefd=False), write_through=now)  # noqa: SIM115
    sys.stderr = open(2, 'w', 1, errors='backslashreplace', closefd=False)  # noqa: SIM115
    sys.argv = args = request['args']
    added = [entry for entry in os.environ.get('PYTHONPATH', '').split(os.pathsep) if entry]
    if args[0] == '-c':
        sys.argv = ['-c', *args[2:]]
        sys.path[:] = ['', *added, *path]
        module = type(sys)('__main__')
        sys.modules['__main__'] = module
        exec(compile(args[1], '<string>', 'exec'), module.__dict__)
    else:
        sys.path[:] = [os.path.dirname(os.path.realpath(args[0])), *added, *path]
        runpy.run_path(args[0], run_name='__main__')


if __name__ == '__main__':
    main()
