import os
import random
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
import xdist

# On a GPU: what deterministic kernels of cuBLAS need for equal bits, and float32 that is float32. Before torch, and for processes
# that tests start.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
os.environ.setdefault('NVIDIA_TF32_OVERRIDE', '0')
# No torch up here: xdist's process that runs no tests would import it first, for seconds
TESTS = Path(__file__).parent
ONE_BY_ONE = (
    'test_detection/test_pairs.py',
    'test_face/test_configs.py',
    'test_configs.py',
)  # their tests share nothing that takes time to make


SHARE_A_RUN = ('test_tools/test_train.py', 'test_tools/test_test.py', 'test_tools/test_export_student.py')


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    if not xdist.is_xdist_controller(session):
        import shortcuts

        shortcuts.take()


def pytest_itemcollected(item):
    """A file goes to one worker, so that the runs that its tests share are trained once; long files of single runs to both."""
    path = item.path.relative_to(TESTS).as_posix()
    if path not in ONE_BY_ONE:
        item.add_marker(pytest.mark.xdist_group('a run of tools/train.py' if path in SHARE_A_RUN else path))


def pytest_collection_modifyitems(items):
    """Files of slow tests first, then those of many: what is left at the end is small, and both workers end together."""
    slow = defaultdict(list)
    for item in items:
        slow[item.path].append(item.get_closest_marker('slow') is not None)
    items.sort(key=lambda item: (-mean(slow[item.path]), -len(slow[item.path])))


@pytest.fixture(scope='session')
def teacher_path(tmp_path_factory):
    """Weights of ``classifier()``, the default teacher of the tests."""
    from helpers import classifier, save_weights

    return save_weights(classifier(), tmp_path_factory.mktemp('teacher') / 'teacher.pth')


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """Digits on photos: 6 images to train, 4 to validate, 5 without annotations, of 64 pixels."""
    from mmsskd.datasets.digits_on_photos import write_digits_on_photos

    folder = tmp_path_factory.mktemp('photos') / 'set'
    write_digits_on_photos(folder, train=6, val=4, unlabelled=5, size=64)
    return folder


@pytest.fixture(scope='session')
def detection_teacher(tmp_path_factory):
    """Weights of ``detection.detector()``."""
    from detection import detector, save_detector

    return save_detector(detector(), tmp_path_factory.mktemp('detection_teacher') / 'teacher.pth')


@pytest.fixture(autouse=True)
def one_thread():
    """The models are so small that threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """What a test draws does not depend on the tests that ran before it in its process."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  pipelines of OpenMMLab draw from the global state
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_visualizers_of_runs_before():
    """MMEngine names a run by its config and the second: one of the same name would write into the folder of the test before."""
    from mmengine.visualization import Visualizer

    kinds = [Visualizer]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def nondeterministic_again():
    """A run with ``randomness.deterministic`` sets it for the process, and detection has operations that then raise."""
    import torch

    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def no_large_checkpoints_left(tmp_path):
    """Those of real networks come to tens of GB in a run. The folders stay: MMEngine's global visualizer may still write there."""
    yield
    for path in tmp_path.rglob('*.pth'):
        if path.stat().st_size > 10 * 2**20:
            path.unlink()
