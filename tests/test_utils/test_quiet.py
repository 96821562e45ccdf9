"""Modules that say what a user cannot use are imported in silence, and nothing after them is silenced."""

from mmengine.logging import MMLogger

from mmsskd.utils.quiet import import_quietly, warnings_alone

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


def test_warnings_alone_are_heard_and_then_all(monkeypatch, capfd):
    logger = MMLogger.get_instance('looking', log_level='INFO')
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    with warnings_alone():
        logger.info('of a network that is looked at')
        logger.warning('of a fault')
    logger.info('of the run')
    said = capfd.readouterr().out
    assert 'looked at' not in said and 'of a fault' in said and 'of the run' in said


def test_what_each_file_says_of_the_environment_is_heard_once(monkeypatch, capfd):
    logger = MMLogger.get_instance('of files', log_level='INFO')
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    for _ in range(2):
        import_quietly()
        logger.info('Using env variable `A` with value of 1 to replace item in config.')
        logger.info('Using env variable `B` with value of 1 to replace item in config.')
        logger.info('of the run')
    said = capfd.readouterr().out
    assert [said.count(each) for each in ('`A`', '`B`', 'of the run')] == [1, 1, 2]
