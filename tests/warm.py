"""Python processes that need not import torch and OpenMMLab's packages again, which takes 6 seconds of CPU: they are forked from
one that has imported them, and nothing of ours. For tests whose subject is what a process does, not how it comes to its modules.

This file is both: the module that tests import, and, run as a script, the process that is forked.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading

PRELOAD = (
    'matplotlib.pyplot',
    'mmengine.runner',
    'mmpretrain.datasets',
    'mmpretrain.models',
    'mmdet.datasets',
    'mmdet.models',
    'mmdet.evaluation',
)
_lock = threading.Lock()


# -- in the tests ------------------------------------------------------------------------------------------------------


def run(args, cwd, env, timeout) -> subprocess.CompletedProcess:
    """Do what ``subprocess.run([sys.executable, *args])`` does, output as text. First in ``args``: a script, or -c and its text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _connect() as connection:
        request = json.dumps(dict(args=args, cwd=str(cwd or os.getcwd()), env=env)).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, 'big')], [out.fileno(), err.fileno()])
        connection.sendall(request)
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


def _connect() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_server())
    return connection


def _server() -> str:
    """Address of the process to fork, which is started at the first call."""
    with _lock:
        if _server.address is None:
            folder = tempfile.TemporaryDirectory(prefix='warm')
            _server.address = os.path.join(folder.name, 'socket')
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(_server.address)
            listener.listen()
            env = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
            env['OMP_NUM_THREADS'] = (
                '1'  # read when torch is imported, so by this process and not by those that are forked
            )
            process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno())], pass_fds=[listener.fileno()], env=env
            )

            def end():
                process.terminate()
                process.wait()
                listener.close()
                folder.cleanup()

            atexit.register(end)
    return _server.address


_server.address = None


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b''
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError('the process to fork has ended')
        data += more
    return data


# -- in the process that is forked -------------------------------------------------------------------------------------


def serve(listener: socket.socket) -> dict:
    """Fork at each connection; returns the request in the process that is to serve it, and only there."""
    while True:
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
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
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
