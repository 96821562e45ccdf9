import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from helpers import classifier, save_weights


@pytest.fixture(scope='session')
def teacher_path(tmp_path_factory):
    """Weights of ``classifier()``, the default teacher of the tests."""
    return save_weights(classifier(), tmp_path_factory.mktemp('teacher') / 'teacher.pth')


@pytest.fixture(autouse=True)
def one_thread():
    """The models are so small that threads only wait for each other."""
    torch.set_num_threads(1)
