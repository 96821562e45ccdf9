"""Files and folders are whole or not there, whatever happens while they are written."""

import json

import pytest

from mmsskd.errors import ConfigError
from mmsskd.utils.files import holds_set, new_folder, remove_parts, replacing, write_text


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / 'deep/student.py'
    with replacing(path, suffix='.py') as part:
        assert part.suffix == '.py' and part.parent == path.parent
        part.write_text('old')
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text('ne')
        raise KeyboardInterrupt
    assert path.read_text() == 'old' and list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replacing(tmp_path / 'a') as one, replacing(tmp_path / 'a') as other:
        one.write_text('1')
        other.write_text('2')
    assert (tmp_path / 'a').read_text() == '1'  # the one that ended last


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    left = ['iter_2.pth.0123abcd.part', 'config.py.0123abcd.part.py']
    kept = ['iter_2.pth', 'my.part', 'a.0123abcd.partly', 'b.0123abcd.part.d.e']
    for name in (*left, *kept):
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_text_with_half_a_character(tmp_path):
    write_text(tmp_path / 'names', 'caf\udce9 ü')
    assert (tmp_path / 'names').read_text('utf-8') == 'caf\\udce9 ü'


def test_a_folder_gets_its_name_when_it_is_full(tmp_path):
    out = tmp_path / 'set'
    with pytest.raises(ZeroDivisionError), new_folder(out) as part:
        (part / 'a').touch()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    out.mkdir()  # an empty one may be there, and what a kill left beside it
    (tmp_path / 'set.part').mkdir()
    (tmp_path / 'set.part/old').touch()
    with new_folder(out) as part:
        (part / 'a').touch()
        assert not list(out.iterdir())
    assert [path.name for path in out.iterdir()] == ['a'] and list(tmp_path.iterdir()) == [out]
    with (
        pytest.raises(ConfigError, match='holds something already; choose another folder or remove it'),
        new_folder(out),
    ):
        pass


def test_which_set_a_folder_holds(tmp_path):
    info = dict(size=64, seed=0)
    assert not holds_set(tmp_path / 'none', info) and not holds_set(tmp_path, info)
    (tmp_path / 'info.json').write_text(json.dumps(dict(info, seed=1, more=2)))
    with pytest.raises(ConfigError, match=r'holds a data set with seed 1 \(asked for: 0\); choose another'):
        holds_set(tmp_path, info)
    (tmp_path / 'info.json').write_text(json.dumps(info))
    assert holds_set(tmp_path, info)
    for wrong in ('[', '[]'):
        (tmp_path / 'info.json').write_text(wrong)
        with pytest.raises(ConfigError, match='holds something else'):
            holds_set(tmp_path, info)
