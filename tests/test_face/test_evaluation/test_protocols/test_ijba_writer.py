"""The IJB-A-shaped set: its counts, its peculiarities, and that reading gives back what was written."""

import csv
import json
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from helpers import ROOT, warm_python

from mmsskd.errors import ConfigError
from mmsskd.face.evaluation.protocols import file_faults, read_ijba
from mmsskd.face.evaluation.protocols.ijba_writer import COLUMNS, write_ijba_shaped

TOOL = ROOT / 'tools/face/make_ijba_shaped.py'
PEOPLE, IMAGES, TESTED = 12, 9, 8
TASKS = {'11': ('verify_metadata',), '1N': ('search_gallery', 'search_probe')}


def write_people(folder, people=PEOPLE, images=IMAGES):
    """Pictures 60 wide and 72 high, each of a grey of its own."""
    for person in range(people):
        (folder / f'p{person:02}').mkdir(parents=True)
        for number in range(images):
            image = np.full((72, 60), 10 + person * 16 + number, np.uint8)
            cv2.imwrite(str(folder / f'p{person:02}/{number}.png'), image)
    return folder


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp('people') / 'people')


@pytest.fixture(scope='module')
def written(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp('shaped') / 'set'
    assert write_ijba_shaped(folder, out) is True
    return out


def rows(root, task, name, split):
    with open(root / f'IJB-A_{task}_sets/split{split}/{name}_{split}.csv', newline='') as file:
        return list(csv.DictReader(file))


def every_row(root):
    return [
        row for task, names in TASKS.items() for name in names for split in range(1, 11) for row in rows(root, task, name, split)
    ]  # fmt: skip


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_the_layout_is_nists(written):
    names = {
        '11': ('train', 'verify_comparisons', 'verify_metadata'),
        '1N': ('search_gallery', 'search_probe', 'train'),
    }
    for task, lists in names.items():
        folders = [f'split{number}' for number in range(1, 11)]
        assert sorted(path.name for path in (written / f'IJB-A_{task}_sets').iterdir()) == sorted(folders)
        for number in range(1, 11):
            found = sorted(path.name for path in (written / f'IJB-A_{task}_sets/split{number}').iterdir())
            assert found == [f'{name}_{number}.csv' for name in lists]
            for path in (written / f'IJB-A_{task}_sets/split{number}').iterdir():
                header, rest = path.read_bytes().split(b'\r\n', 1)
                if 'comparisons' in path.name:
                    assert header.replace(b',', b'').isdigit() and rest.count(b'\n') == rest.count(b'\r\n')
                else:
                    assert header.decode().split(',') == list(COLUMNS) and len(COLUMNS) == 25 and b'\r' not in rest
    assert {path.suffix for path in (written / 'images/frame').iterdir()} == {'.png'}
    assert not (written.parent / 'set.part').exists()


def test_every_image_is_one_face_that_its_box_holds(written):
    faces = {}
    for row in every_row(written):
        box = tuple(float(row[name]) for name in COLUMNS[6:10])
        assert np.allclose(faces.setdefault((row['FILE'], row['SIGHTING_ID']), box), box, rtol=0, atol=1e-6)
    protocol = read_ijba(written)
    values = Counter()
    for file, box in zip(protocol.faces.files, protocol.faces.boxes.astype(int)):
        x, y, width, height = box
        image = cv2.imread(f'{protocol.root}/{file}')
        assert image.shape[0] > height == 72 and image.shape[1] > width == 60
        face = image[y + 16 : y + height - 16, x + 16 : x + width - 16].astype(int)  # JPEG blurs the edges
        assert face.max() - face.min() <= 3
        values[round(np.median(face))] += 1
    assert len(protocol.faces) == len(faces) == PEOPLE * IMAGES and file_faults(protocol) == {}
    assert set(values) == {10 + person * 16 + number for person in range(PEOPLE) for number in range(IMAGES)}


def test_reading_gives_back_what_was_written(written):
    protocol = read_ijba(written)
    keys = {key: place for place, key in enumerate(protocol.faces.keys.tolist())}
    sightings = Counter(file for file, _ in {(row['FILE'], row['SIGHTING_ID']) for row in every_row(written)})

    def expected(table):
        templates = defaultdict(list)
        for row in table:
            key = row['FILE'] if sightings[row['FILE']] == 1 else f'{row["FILE"]}#{row["SIGHTING_ID"]}'
            templates[int(row['TEMPLATE_ID']), int(row['SUBJECT_ID'])].append((keys[key], row['MEDIA_ID']))
        return templates

    def check(templates, table):
        written = expected(table)
        assert list(zip(templates.ids.tolist(), templates.subjects.tolist())) == list(written)
        media = {}
        for place, faces in enumerate(written.values()):
            of = templates.rows_template == place
            assert templates.rows_face[of].tolist() == [face for face, _ in faces]
            for number, (_, medium) in zip(templates.rows_media[of].tolist(), faces):
                assert media.setdefault(number, medium) == medium
        assert len(set(media.values())) == len(media)

    for number, split in enumerate(protocol.splits, 1):
        metadata = rows(written, '11', 'verify_metadata', number)
        check(split.verification.templates, metadata)
        path = written / f'IJB-A_11_sets/split{number}/verify_comparisons_{number}.csv'
        pairs = [tuple(map(int, line.split(','))) for line in path.read_text().split()]
        assert [tuple(pair) for pair in split.verification.templates.ids[split.verification.pairs].tolist()] == pairs
        subjects = {int(row['TEMPLATE_ID']): row['SUBJECT_ID'] for row in metadata}
        assert split.verification.genuine.tolist() == [subjects[a] == subjects[b] for a, b in pairs]
        check(split.identification[0].gallery, rows(written, '1N', 'search_gallery', number))
        check(split.identification[0].probes, rows(written, '1N', 'search_probe', number))


def test_counts_of_every_split(written):
    info = json.loads((written / 'info.json').read_text())
    for number, split in enumerate(read_ijba(written).splits, 1):
        enrolled = TESTED - (number in (2, 3, 9))
        one, (search,) = split.verification, split.identification
        enrol, probes = set(one.pairs[:, 0].tolist()), set(one.pairs[:, 1].tolist())
        assert not enrol & probes and len(enrol | probes) == len(one.templates)
        assert len(enrol) == len({one.templates.subjects[place] for place in enrol}) == enrolled
        assert len(np.unique(one.templates.subjects)) == TESTED
        assert len(one.pairs) == len(enrol) * len(probes) == len(np.unique(one.pairs, axis=0))
        own = {one.templates.subjects[place] for place in enrol}
        assert one.genuine.sum() == sum(one.templates.subjects[place] in own for place in probes)
        sizes = np.bincount(one.templates.rows_template)[sorted(probes)]
        assert 0.4 <= (sizes == 1).mean() <= 0.6 and sizes.max() > 2
        assert len(search.gallery) == len(np.unique(search.gallery.subjects)) == TESTED - round(TESTED / 3)
        assert len(np.unique(search.probes.subjects)) == TESTED
        unmated = set(search.probes.subjects.tolist()) - set(search.gallery.subjects.tolist())
        assert len(unmated) == round(TESTED / 3)
        assert info['counts'][f'split{number}'] == dict(
            rows=len(one.templates.rows_face), templates=len(one.templates), pairs=len(one.pairs),
            genuine=int(one.genuine.sum()), gallery=len(search.gallery), probes=len(search.probes),
        )  # fmt: skip
        tested = {row['SUBJECT_ID'] for row in rows(written, '11', 'verify_metadata', number)}
        for task in ('11', '1N'):
            trained = {row['SUBJECT_ID'] for row in rows(written, task, 'train', number)}
            assert len(trained) == PEOPLE - TESTED and not trained & tested


def test_media_of_templates(written):
    """Enrol templates have several media; frames of one video share a MEDIA_ID, photos do not."""
    files = defaultdict(set)
    for row in every_row(written):
        files[row['MEDIA_ID']].add(row['FILE'])
    for medium, names in files.items():
        assert names == {f'img/{medium}.jpg'} or all(name.startswith(f'frame/{medium}_') for name in names)
    assert {len(names) for names in files.values()} == {1, 2, 3}
    one = read_ijba(written, splits=[1]).splits[0].verification
    for place in set(one.pairs[:, 0].tolist()):
        assert len(np.unique(one.templates.rows_media[one.templates.rows_template == place])) == 3


def test_the_peculiarities_of_the_original_are_there(written):
    table = every_row(written)
    disk = {path.name for path in (written / 'images/img').iterdir()}
    listed = {row['FILE'].removeprefix('img/') for row in table if row['FILE'].startswith('img/')}
    assert {name.rpartition('.')[2] for name in disk - listed} == {'JPG', 'JPEG', 'png'}
    assert {name.rpartition('.')[2] for name in listed} == {'jpg'}
    sightings = defaultdict(set)
    for row in table:
        sightings[row['FILE']].add((row['SIGHTING_ID'], row['SUBJECT_ID']))
    assert sorted(map(len, sightings.values()))[-3:] == [1, 2, 2]
    written_as = defaultdict(set)
    for row in table:
        written_as[row['SIGHTING_ID']].add(row['FACE_X'])
    assert any(texts == {text, text + '.0'} for texts in written_as.values() for text in texts)
    fractions = [texts for texts in written_as.values() if any(text.count('.') and text[-2:] != '.0' for text in texts)]
    assert 0.2 < len(fractions) / len(written_as) < 0.4  # "93.00571429" and "93.0057142857143", from split to split
    assert all(len({round(float(text), 5) for text in texts}) == 1 for texts in fractions)
    assert sum(len(texts) > 1 for texts in fractions) > len(fractions) / 2
    points = [tuple(row[name] for name in COLUMNS[10:16]) for row in table]
    complete = np.mean([all(point) for point in points])
    assert 0.35 < complete < 0.75 and not all(all(point) or not any(point) for point in points)
    templates = defaultdict(set)  # TEMPLATE_ID -> the faces that it holds, in each split and list
    for task, names in TASKS.items():
        for name in names:
            for split in range(1, 11):
                faces = defaultdict(list)
                for row in rows(written, task, name, split):
                    faces[row['TEMPLATE_ID']].append(row['SIGHTING_ID'])
                for number, held in faces.items():
                    templates[number].add(tuple(held))
    assert sum(len(held) > 1 for held in templates.values()) > len(templates) / 2
    lonely = set()
    for number, split in enumerate(read_ijba(written).splits, 1):
        one = split.verification
        enrolled = set(one.templates.subjects[one.pairs[:, 0]].tolist())
        alone = set(one.templates.subjects.tolist()) - enrolled
        assert len(alone) == (number in (2, 3, 9))
        lonely |= alone
    assert len(lonely) == 1


def test_splits_differ(written):
    splits = read_ijba(written).splits
    people = [tuple(sorted(set(split.verification.templates.subjects.tolist()))) for split in splits]
    faces = [tuple(split.verification.templates.rows_face.tolist()) for split in splits]
    assert len(set(faces)) == 10 and len(set(people)) > 7 and people[0] != people[9]


def test_the_seed_decides_every_byte(folder, written, tmp_path):
    assert write_ijba_shaped(folder, tmp_path / 'again') is True
    assert contents(tmp_path / 'again') == contents(written)
    assert write_ijba_shaped(folder, tmp_path / 'again') is False
    write_ijba_shaped(folder, tmp_path / 'other', seed=1)
    other = contents(tmp_path / 'other')
    assert other.keys() != contents(written).keys()
    with pytest.raises(ConfigError, match=r'holds a data set with seed 1 \(asked for: 0\)'):
        write_ijba_shaped(folder, tmp_path / 'other')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/file').write_text('')
    with pytest.raises(ConfigError, match='holds something else'):
        write_ijba_shaped(folder, tmp_path / 'mine')


@pytest.mark.slow
def test_images_can_be_missing_and_pairs_few(folder, tmp_path):
    (tmp_path / 'set.part').mkdir()
    (tmp_path / 'set.part/left').write_text('over')
    options = ('--splits', 1, '--missing', 3, '--impostors', 20, '--test-share', 0.5)
    run = warm_python(TOOL, folder, tmp_path / 'set', *options)
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / 'set/left').exists() and 'split1' in run.stdout and 'split2' not in run.stdout
    protocol = read_ijba(tmp_path / 'set', splits=[1])
    (split,) = protocol.splits
    assert len(np.unique(split.verification.templates.subjects)) == 6
    assert (~split.verification.genuine).sum() == 20
    removed = json.loads((tmp_path / 'set/info.json').read_text())['removed']
    missing = {protocol.faces.files[place] for place in file_faults(protocol)}
    assert len(removed) == 3 and f'removed: {", ".join(removed)}' in run.stdout
    stems = {name.removeprefix('images/').rpartition('.')[0] for name in removed}
    assert {name.rpartition('.')[0] for name in missing} <= stems


def test_people_with_few_images_are_left_out_and_said(tmp_path):
    write_people(tmp_path / 'people', people=6, images=4)
    write_people(tmp_path / 'more', people=1, images=3)
    (tmp_path / 'more/p00').rename(tmp_path / 'people/few')
    write_ijba_shaped(tmp_path / 'people', tmp_path / 'set')
    info = json.loads((tmp_path / 'set/info.json').read_text())
    assert info['people'] == 6 and info['too_few_images'] == ['few']
    assert all(split.verification.genuine.any() for split in read_ijba(tmp_path / 'set').splits)


def test_mistakes_are_named_and_leave_nothing(folder, tmp_path):
    out = tmp_path / 'set'
    for options, message in (
        (dict(splits=0), 'splits must be 1 to 99, found 0'),
        (dict(seed=-1), 'seed must be at least 0, found -1'),
        (dict(impostors=0), 'impostors must be at least 1'),
        (dict(missing=-1), 'missing must be at least 0'),
        (dict(missing=999), 'missing must be at most the number of files, 106, found 999'),
        (dict(test_share=1.0), 'test_share must be more than 0 and less than 1, found 1.0'),
    ):
        with pytest.raises(ConfigError, match=message):
            write_ijba_shaped(folder, out, **options)
        assert not out.exists()
    with pytest.raises(ConfigError, match="no folder 'nowhere'"):
        write_ijba_shaped('nowhere', out)
    write_people(tmp_path / 'five', people=5)
    with pytest.raises(ConfigError, match='has 5 sub-folders with at least 4 images'):
        write_ijba_shaped(tmp_path / 'five', out)
    write_people(tmp_path / 'bad', people=6)
    (tmp_path / 'bad/p03/2.png').write_bytes(b'no image')
    with pytest.raises(ConfigError, match=r"bad/p03/2.png' cannot be decoded"):
        write_ijba_shaped(tmp_path / 'bad', out)
    assert not out.exists()
