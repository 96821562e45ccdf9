"""Versions of others: what is too old stops the import, what is newer than tested warns."""

import pytest

from mmsskd import version


def test_too_old_is_an_import_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(version, 'installed_version', lambda module: version.Version('0.1'))
    with pytest.raises(ImportError, match=r'mmsskd needs torch >= 2.6, which is 0.1 .* pip install "torch==2.12.1"'):
        version.check_versions()


def test_newer_than_tested_is_a_warning(monkeypatch):
    monkeypatch.setattr(version, 'installed_version', lambda module: version.Version('99.0+cu130'))
    with pytest.warns(UserWarning, match='mmengine 99.0.* is newer than what mmsskd is tested with'):
        version.check_versions()


def test_what_is_not_needed_may_be_missing(monkeypatch):
    real = version.installed_version
    monkeypatch.setattr(
        version, 'installed_version', lambda module: None if module in ('mmdet', 'mmcv') else real(module)
    )
    version.check_versions()
    monkeypatch.setattr(version, 'installed_version', lambda module: None)
    with pytest.raises(ImportError, match='mmsskd needs torch >= 2.6, which is not installed'):
        version.check_versions()
