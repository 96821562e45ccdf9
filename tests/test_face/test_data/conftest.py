"""Records on disk, and what their data set says."""

import pytest
from record_helpers import LABELS, insightface, write_rec


@pytest.fixture
def folder(tmp_path):
    write_rec(tmp_path / 'train.rec', insightface(LABELS))
    (tmp_path / 'property').write_text('3,16,16\n')
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """The warnings of the data set."""
    messages = []
    monkeypatch.setattr('mmsskd.face.data.face_record_dataset.print_log', lambda message, **_: messages.append(message))
    return messages
