"""A small set in the layout of IJB-A, written by hand: what is in it is known to the row."""

from pathlib import Path

HEADER = (
    'TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,RIGHT_EYE_X,RIGHT_EYE_Y,'
    'LEFT_EYE_X,LEFT_EYE_Y,NOSE_BASE_X,NOSE_BASE_Y,FACE_YAW,FOREHEAD_VISIBLE,EYES_VISIBLE,NOSE_MOUTH_VISIBLE,INDOOR,GENDER,'
    'SKIN_TONE,AGE,FACIAL_HAIR'
)
TAIL = ',1,2,,,5,6,-1.5,1,0,,1,0,3,2,1'
# face: FILE, MEDIA_ID, SIGHTING_ID, box; img/4.jpg shows two people
FACES = {
    'a': ('img/1.jpg', 11, 101, '328,20,50,60'),
    'b': ('frame/2_00001.png', 12, 102, '10,20,50,60'),
    'c': ('frame/2_00004.png', 12, 103, '12,20,50,60'),
    'd': ('img/3.jpg', 13, 104, '1,2,30,40'),
    'e': ('img/4.jpg', 14, 105, '5,5,20,20'),
    'f': ('img/4.jpg', 14, 106, '45,5,20,20'),
}
OTHER = {'a': '328.0,20.0,50,60.00'}  # the same box in other words


def row(template, subject, face, boxes=FACES, tail=TAIL):
    file, medium, sighting, box = FACES[face]
    box = boxes.get(face, FACES[face][3]) if boxes is not FACES else box
    return f'{template},{subject},{file},{medium},{sighting},,{box}{tail}'


def table(*rows, header=HEADER):
    """A header that ends in CR LF, rows that end in LF."""
    return (header + '\r\n' + ''.join(line + '\n' for line in rows)).encode()


def write_ijba(root: Path, splits=(1, 2)) -> Path:
    """1:1 and 1:N, the splits mirrored; every split has the TEMPLATE_IDs 1 to 4, of other faces in each split and task."""
    for split in splits:
        first, second = ('ab', 'cd') if split % 2 else ('dc', 'ba')
        one, many = root / f'IJB-A_11_sets/split{split}', root / f'IJB-A_1N_sets/split{split}'
        for folder in (one, many):
            folder.mkdir(parents=True)
        rows = [row(1, 7, face) for face in first] + [row(2, 7, second[0]), row(3, 8, 'e'), row(4, 9, 'f')]
        (one / f'verify_metadata_{split}.csv').write_bytes(table(*rows))
        (one / f'verify_comparisons_{split}.csv').write_bytes(b'1,2\r\n1,3\r\n1,4\r\n')
        (many / f'search_gallery_{split}.csv').write_bytes(table(row(2, 7, 'a', OTHER), row(1, 8, 'e')))
        (many / f'search_probe_{split}.csv').write_bytes(table(row(1, 7, 'b'), row(1, 7, 'c'), row(3, 9, 'f')))
    for name in ('img/1.JPG', 'frame/2_00001.png', 'frame/2_00004.png', 'img/3.jpeg', 'img/4.png'):
        (root / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        (root / 'images' / name).write_bytes(b'no image')
    return root
