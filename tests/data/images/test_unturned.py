"""An EXIF orientation turns no picture: not in any decoder, nor the sizes in the index. So trains the field."""

import base64
import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from resnetctl.data.images import nvimgcodec
from resnetctl.data.images.decode import decode
from resnetctl.data.images.decoders import WHOLE, whole_decoder
from resnetctl.data.images.header import image_size
from resnetctl.data.images.unturned import unturned
from resnetctl.data.index import Index
from resnetctl.data.prepare import prepare
from resnetctl.errors import DataError
from tests.fixtures.photos import tile

ORIENTATIONS = range(2, 9)  # 1 is upright


def turned(orientation: int, format: str = "JPEG", **options: object) -> bytes:
    """A picture of 61 × 47 pixels and an EXIF that says how to show it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    tile(orientation, 61, 47).save(file, format, exif=exif, **options)
    return file.getvalue()


def stored(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("decoder", WHOLE)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])  # TIFF: Pillow itself turns it, for all
def test_no_decoder_turns_a_picture(format, orientation, decoder):
    data = turned(orientation, format)
    assert decode(data, decoder).shape == (3, 47, 61)
    assert torch.equal(decode(data, decoder), stored(data))
    assert image_size(data) in ((47, 61), (0, 0))


@pytest.mark.skipif(nvimgcodec.why_not() is not None, reason="needs the extra nvimgcodec")
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nvimgcodec_turns_no_region(orientation):
    data = turned(orientation)
    part = nvimgcodec.decode_region(data, (47, 61), (3, 5, 30, 40))
    assert part is not None
    assert torch.equal(part, stored(data)[:, 3:33, 5:45])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_photograph_of_a_camera_is_not_left_to_the_slower_decoder(progressive):
    data = turned(6, progressive=progressive)
    pixels = whole_decoder("torchcodec")(data)
    assert pixels is not None
    assert torch.equal(pixels, stored(data))


def test_by_itself_torchcodec_would_turn_it():
    """Where a later one does not any more, what hides the orientation can go."""
    from torchcodec.decoders import decode_image

    for format in ("JPEG", "PNG", "WEBP"):
        assert decode_image(turned(6, format)).shape == (3, 61, 47)


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": False}])
def test_an_exif_where_none_belongs(options):
    """Between the frame and the scan, between two scans, behind the end: libjpeg reads the first two."""
    plain = io.BytesIO()
    tile(6, 61, 47).save(plain, "JPEG", **options)
    data, exif = plain.getvalue(), turned(6)
    segment = exif[exif.index(b"\xff\xe1") :][: 2 + int.from_bytes(exif[exif.index(b"\xff\xe1") + 2 :][:2], "big")]
    scans = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    for place in (scans[0], scans[-1], len(data)):
        moved = data[:place] + segment + data[place:]
        assert torch.equal(decode(moved, "torchcodec"), stored(data))


def test_a_table_that_looks_like_a_marker_is_left_alone():
    """A quantization table may hold the bytes of the marker of EXIF."""
    tables = [[16] * 62 + [255, 225], [16] * 30 + [255, 225] + [16] * 32]
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    tile(6, 61, 47).save(file, "JPEG", qtables=tables, exif=exif)
    data = file.getvalue()
    assert data.count(b"\xff\xe1") >= 2
    assert torch.equal(decode(data, "torchcodec"), stored(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\x00\x00" + bytes(50),
        b"\xff\xd8\xff\xe1\xff\xff" + bytes(50),
        b"\xff\xd8" + b"\xff" * 500,
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(30) + b"IEND" + bytes(4),
        b"RIFF\xff\xff\xff\xffWEBPVP8X",
        b"GIF89a" + bytes(50),
    ],
)
def test_what_cannot_be_followed_is_left_to_others(data):
    assert unturned(data) is None


def test_the_sizes_in_the_index_and_the_pixels_of_imagefolder(tmp_path):
    """Rotated photographs in class folders: the same size and pixels in the index, here and in torchvision."""
    for orientation in range(1, 9):
        for split in ("train", "val"):
            path = tmp_path / "photos" / split / f"c{orientation % 2}" / f"{orientation}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(turned(orientation))
    prepare(tmp_path / "data", tmp_path / "photos", "folder")
    index = Index(tmp_path / "data" / "train.index.safetensors")
    assert set(zip(index.height.tolist(), index.width.tolist(), strict=True)) == {(47, 61)}
    theirs = ImageFolder(tmp_path / "photos" / "train")
    for i in range(len(index)):
        picture = torch.from_numpy(np.array(theirs[i][0])).permute(2, 0, 1)
        for decoder in WHOLE:
            assert torch.equal(decode(index.read(i), decoder), picture)


# 24 × 16 pixels, red above green and blue, by libheif; the second one with an EXIF that says: turn it by 90 degrees
HEIC = (
    b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN=qY27(zttelydmj>p6L`8v|R3<1d"
    b"qb%7F#N;c;EXjo{`IA{tQ~;#!WELdn1L;zrGG|6+kkACMBDoI?fBydX!N9=JoB-4z;lRkl`2Rmh0W(MiGYHA;Vsc0XN@_YWGNQ>WP-tYG_G;a%XA"
    b"cw?9B5!*;AsE}w<G~ov$-%HEI!x?v_m*KKc^@!Ii~_B%FDn8RKg&VSzM3`^_T+`Yb56+f*d9Rb-MtF{{R2~4Is?~q%VMIka$66MJ7liGY1C;NPT8"
    b"OE-Z|J!N%Ii#LU_PWG~1~Nd$%Q6b;7pET5#OM>aSGOnrYY`2Rco``>Gh?3gqC;r;*5h5x@QO}E|m@|UaE=giv+)_q{9Jm)PL#yolN3!%N2uN};h<"
    b"N5fkWXV^{iw9eN8osriame=R_XD*`tGZpMAGhuM##^wXVegbn)uqvwUnQR~mwdKgQ%E48`;}T{*7>C_3+6R!ZnrULHowlLAyHzLaJIPhh(@o-=L7"
    b"((b)TI",
    b"c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfpKqcYDppk1Sn>t<P<^K3<a6VB@Af5Br_);Y>0~k0}}%yh{gC2LIc4JpcoJ^Rl-G7fY>54GcOIy1"
    b"Ida4IjLY}Ks6a<$%YI_f{Y*~t`(VJ<$ML1CAkbxl?;C}3yKPW^qtIt<a{7q3e@Y&$P5yi09GXTf#J{JA3qov_?Z)cIwTwzc^Loy2Pt3%sbB^nxm`"
    b">Si9ktBCq_mznFR`stkYhtoAvC0;(`MW3=BLCAmNrIplUW3#)HKNJArlxC+FuB<t67-07ZEj*nmnHL^6vDQlY+efMSj0oJ5erB%p2=0MY;d|GxnW"
    b"10a0?8WsWtnH8BJjm#Vz93b_X1-Y=OU}RuqZDe9*Z2_{SGK*5vpyGVVDaFa)um_oZBsV1y6iHJw7}v9WlAa#f;1n?R{kh=(@AU6~uQ{?~&h&@(|3"
    b"4T0|Ee_IcHhfiu3n!rZ!cK)fu-`Cw`3Ue<h?J1_FlerFh`E(<Fk?_Uo9^lZ24*U)^^4r+o#_T)GDp&cAb9Qw(lEn!H$N#Q!Z7PMqhrFe8ODv*?vt"
    b"SfrRc?YL!{%m%1#N*RZ+W#-Q2!I+un-iB-bc;?^S?y&|6zfbL?0M5eDVgBFm-!NABU1PX6ZphCO@0D7ycK>",
)


@pytest.fixture(scope="module")
def libheif() -> None:
    try:
        decode(zlib.decompress(base64.b85decode(HEIC[0])))
    except DataError as error:
        assert "libheif" in str(error)  # noqa: PT017
        pytest.skip("needs libheif")


@pytest.mark.usefixtures("libheif")
@pytest.mark.parametrize("number", [0, 1])
def test_a_heic_of_a_phone(number):
    data = zlib.decompress(base64.b85decode(HEIC[number]))
    pixels = decode(data)
    assert pixels.shape == (3, 16, 24)
    found = [int(pixels[:, y, x].argmax()) for y, x in ((4, 12), (12, 4), (12, 20))]
    assert found == [0, 1, 2], "red above green and blue"
    for length in range(40, len(data) - 1, 50):
        with pytest.raises(DataError):
            decode(data[:length])


def test_a_heic_that_claims_too_many_pixels():
    data = zlib.decompress(base64.b85decode(HEIC[0]))
    at = data.index(b"ispe") + 8
    with pytest.raises(DataError, match="too many"):
        decode(data[:at] + (60_000).to_bytes(4, "big") * 2 + data[at + 8 :])
