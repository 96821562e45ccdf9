import pytest


@pytest.fixture(scope='session')
def face_sets(tmp_path_factory):
    from face import write_face_sets

    return write_face_sets(tmp_path_factory.mktemp('faces'))


@pytest.fixture(scope='session')
def face_teacher(tmp_path_factory):
    """Weights of ``recognizer()``."""
    from face import recognizer, save_recognizer

    return save_recognizer(recognizer(), tmp_path_factory.mktemp('face_teacher') / 'teacher.pth')
