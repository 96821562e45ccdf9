"""Modules that say what a user cannot use are imported in silence, and nothing after them is silenced."""

from mmengine.logging import MMLogger

from mmsskd.utils.quiet import import_quietly

NOISY = """
import warnings
from mmengine.logging import MMLogger
print('Could not import OneDL')
MMLogger.get_current_instance().warning('Line NMS is not compiled. Most likely ...')
warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from ...')
import a_package_that_is_not_there
"""


def test_an_import_says_nothing_and_what_follows_is_heard(tmp_path, monkeypatch, capfd, recwarn):
    (tmp_path / 'noisy_module.py').write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    logger = MMLogger('quiet')
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    import_quietly('noisy_module')
    assert capfd.readouterr().out == '' and not [each for each in recwarn if 'Fail to import' in str(each.message)]
    logger.warning('heard')
    assert 'heard' in capfd.readouterr().out
