import pytest
from face import recognizer, save_recognizer, write_face_sets


@pytest.fixture(scope='session')
def face_sets(tmp_path_factory):
    return write_face_sets(tmp_path_factory.mktemp('faces'))


@pytest.fixture(scope='session')
def face_teacher(tmp_path_factory):
    """Weights of ``recognizer()``."""
    return save_recognizer(recognizer(), tmp_path_factory.mktemp('face_teacher') / 'teacher.pth')
