"""Folders are walked once, however many links lead to them."""

import os

from mmsskd.utils.folders import describe_left_out, walk_files


def tree(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_files_at_any_depth_are_sorted(tmp_path):
    tree(tmp_path, 'b/2.jpg', 'b/deep/1.jpg', 'a/3.jpg')
    (a, b), left_out = walk_files([tmp_path / 'a', tmp_path / 'b'])
    assert a == [str(tmp_path / 'a/3.jpg')] and b == [str(tmp_path / 'b/2.jpg'), str(tmp_path / 'b/deep/1.jpg')]
    assert not left_out


def test_a_link_gives_what_nothing_else_has_given(tmp_path):
    tree(tmp_path, 'people/anna/1.jpg', 'elsewhere/2.jpg')
    (tmp_path / 'people/bert').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'people/anna_again').symlink_to(tmp_path / 'people/anna')
    tops = [tmp_path / 'people' / name for name in ('anna_again', 'anna', 'bert')]
    found, left_out = walk_files(tops)
    assert [[os.path.basename(path) for path in files] for files in found] == [[], ['1.jpg'], ['2.jpg']]
    assert left_out == [str(tops[0])]
    assert describe_left_out(left_out).startswith(f'left out 1 folder: {str(tops[0])!r}; links lead to')


def test_loops_end(tmp_path):
    tree(tmp_path, 'people/bert/1.jpg')
    (tmp_path / 'people/bert/loop').symlink_to('..')
    (tmp_path / 'people/bert/self').symlink_to('.')
    ((files,), left_out) = walk_files([tmp_path / 'people/bert'])
    assert files == [str(tmp_path / 'people/bert/1.jpg')]
    assert left_out == [str(tmp_path / 'people/bert' / name) for name in ('loop', 'self')]
    assert describe_left_out(left_out).startswith('left out 2 folders: ')
