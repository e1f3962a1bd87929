"""Finding and reading data files, without network: the checksums, the errors, the formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from dse.errors import UserError
from dse.tasks import TASKS
from dse.tasks.base import single
from dse.tasks.data import idx, locate, sources, tables, text
from dse.tasks.data.sources import SOURCES, DataFile, DataSource
from tests.tasks.no_network import without_network


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a network that is down."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_network(monkeypatch)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """A source of one small file whose right content is b'right'."""
    file = DataFile("a.bin", "http://example.invalid/a.bin", hashlib.sha256(b"right").hexdigest(), 5)
    source = DataSource("fake", "image", "a fake", "none", (file,), folder="sub", offline="digits")
    monkeypatch.setitem(SOURCES, "fake", source)
    return source


def test_missing_files_are_named_with_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        TASKS["image"](source="fashion-mnist").load(tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "fashion-mnist: train-images-idx3-ubyte.gz is missing" in message
    for folder in (tmp_path / "fashion-mnist", tmp_path, tmp_path / "cache" / "dse" / "fashion-mnist"):
        assert str(folder) in message
    assert "network is unreachable" in message
    assert "'digits' works offline" in message


@pytest.mark.parametrize(("name", "offline"), [("tinyshakespeare", "stdlib"), ("california", "diabetes")])
def test_other_downloads_name_their_offline_source(name: str, offline: str) -> None:
    with pytest.raises(UserError, match=f"{offline}' works offline"):
        locate.files(name)


@pytest.mark.parametrize("folder", ["data", "data/sub", "cache/dse", "cache/dse/sub"])
def test_files_are_found_where_the_error_says(source: DataSource, tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "a.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"right")
    assert locate.files("fake", tmp_path / "data") == (path,)


def test_a_wrong_checksum_is_an_error(source: DataSource, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"wrong")
    with pytest.raises(UserError, match=rf"{tmp_path}/a.bin: checksum differs.*damaged") as error:
        locate.files("fake", tmp_path)
    assert "\n" not in str(error.value)


def test_an_unwritable_cache_is_a_user_error(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"a\.bin is missing"):
        locate.files("fake")


def test_catalog_lists_every_source(tmp_path: Path) -> None:
    rows = {row.name: row for row in locate.catalog(tmp_path)}
    assert rows.keys() == SOURCES.keys()
    assert rows["gaussian"].where == rows["stdlib"].where == "always there"
    assert rows["fashion-mnist"].where == "downloadable"
    assert rows["digits"].where.endswith("sklearn/datasets/data")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    assert "1 of 4" in {row.name: row for row in locate.catalog(tmp_path)}["fashion-mnist"].where


def test_every_source_states_its_license_and_checksums() -> None:
    for source in SOURCES.values():
        assert source.license
        assert source.summary
        assert not source.offline or not any(f.package == "" for f in SOURCES[source.offline].files)
        for file in source.files:
            assert len(file.sha256) == 64
            assert file.url.startswith("http")
    assert sources.SOURCES is SOURCES


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx_bytes(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(array)))
    for name in ("a", "a.gz"):
        assert torch.equal(idx.read_idx(tmp_path / name), torch.from_numpy(array))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not an IDX file"), (b"\0\0\x0d\x01\0\0\0\x01x", "not an IDX"), (b"\0\0\x08\x02\0\0", "cut short"),
     (b"\0\0\x08\x01\0\0\0\x05abc", "3 elements, its header says 5")],
)  # fmt: skip
def test_idx_refuses_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=words):
        idx.read_idx(tmp_path / "a")


def test_idx_refuses_a_torn_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(np.zeros((9, 9), np.uint8)))[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        idx.read_idx(tmp_path / "a.gz")


def test_fashion_is_read_from_its_four_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    files = []
    for file in SOURCES["fashion-mnist"].files:
        count = 12 if file.name.startswith("train") else 6
        array = random.integers(0, 10, (count, 28, 28) if "images" in file.name else (count,), dtype=np.uint8)
        content = gzip.compress(idx_bytes(array))
        (tmp_path / file.name).write_bytes(content)
        files.append(DataFile(file.name, file.url, hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(SOURCES, "fashion-mnist", DataSource("fashion-mnist", "image", "x", "MIT", tuple(files)))
    for name, net in (("image", {"net": "vit"}), ("image", {"net": "mlp"}), ("diffusion", {})):
        task = TASKS[name](source="fashion-mnist", **net)
        data = task.load(tmp_path)
        assert data.x.shape == (12, 28, 28)
        loss = task.loss(task.model(data), single(task, data, 0, 0, 3))
        assert torch.isfinite(loss)
        assert np.isfinite(task.evaluate(task.model(data), data)["loss"])


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    data = TASKS["image"]().load()
    assert data.x.shape == (1437, 8, 8)
    assert data.test_x.shape == (360, 8, 8)
    images = torch.cat([data.x, data.test_x]).flatten(1)
    theirs = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_diabetes_is_scikit_learns() -> None:
    from sklearn.datasets import load_diabetes

    data = tables.load_table("diabetes")
    x, y = torch.cat([data.test_x, data.x]).double(), torch.cat([data.test_y, data.y]).double()
    theirs = load_diabetes(return_X_y=True, scaled=False)
    for ours, column in ((x, torch.from_numpy(theirs[0])), (y[:, None], torch.from_numpy(theirs[1])[:, None])):
        scaled = (column - column.mean(0)) / column.std(0)
        again = (ours - ours.mean(0)) / ours.std(0)
        assert torch.allclose(again.sort(0).values, scaled.sort(0).values, atol=1e-5)
    assert x.shape == (442, 10)
    assert data.test_x.shape == (88, 10)


def test_california_is_read_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(
        f"{-122 + i / 9:.6f},{37 + i % 7:.6f},{i % 5}.0,{800 + i}.0,{100 + i % 3}.0,{300 + i}.0,{100 + i % 9}.0,"
        f"{3 + i % 4}.5,{100000 + 1000 * i}.0\n"
        for i in range(50)
    )
    path = tmp_path / "cal_housing.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("CaliforniaHousing/cal_housing.data")
        member.size = len(lines)
        archive.addfile(member, io.BytesIO(lines.encode()))
    file = DataFile(path.name, "http://example.invalid", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(SOURCES, "california", DataSource("california", "regression", "x", "y", (file,)))
    data = tables.load_table("california", tmp_path)
    assert data.x.shape == (40, 8)
    assert data.test_x.shape == (10, 8)
    assert data.x.mean(0).abs().max() < 1e-5
    assert data.y.std().item() == pytest.approx(1.0, abs=1e-5)


def test_gaussian_teacher_is_linear_in_its_inputs() -> None:
    data = tables.gaussian(rows=400, features=16, noise=0.0)
    assert data.x.shape == (320, 16)
    fit = torch.linalg.lstsq(data.x, data.y[:, None]).solution
    assert (data.test_x @ fit - data.test_y[:, None]).abs().max() < 1e-4


def test_standard_library_text_is_printable() -> None:
    data = text.load_text("stdlib")
    assert data.alphabet == text.PRINTABLE
    assert len(data.alphabet) == 96
    assert len(data.x) > 1_000_000
    assert 0.08 < len(data.test_x) / len(data.x) < 0.13
    decoded = "".join(data.alphabet[i] for i in data.x[:2000].tolist())
    assert "argparse" in decoded


def test_any_text_file(tmp_path: Path) -> None:
    content = "naïve çedilla 漢字\n" * 400
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "mine.txt").write_text(content, encoding="utf-8")
    for name in ("mine", str(tmp_path / "text" / "mine.txt")):
        task = TASKS["lm"](text=name)
        data = task.load(tmp_path)
        restored = "".join(data.alphabet[i] for i in [*data.x.tolist(), *data.test_x.tolist()])
        assert restored == content
        assert len(data.test_x) == len(content) // 10
        x, y = single(task, data, 0, 0, 4)
        assert x.shape == y.shape == (4, 64)
        assert torch.equal(x[:, 1:], y[:, :-1])
        assert all(key in task.evaluate(task.model(data), data) for key in ("loss", "bits_per_char"))


def test_unknown_and_unusable_texts(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "milton.txt").write_text("short", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, words in (("miltn", "did you mean 'milton'?"), ("milton", "too short"), ("binary", "not a readable")):
        with pytest.raises(UserError) as error:
            TASKS["lm"](text=name).load(tmp_path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_rotated_images_are_the_same_images_turned() -> None:
    plain, turned = (TASKS["image"](rotated=degrees).load() for degrees in (0, 270))
    assert torch.equal(turned.x, plain.x.transpose(-2, -1).flip(-1))
    assert torch.equal(turned.y, plain.y)
    with pytest.raises(UserError, match="rotated is 45; valid: 0, 90, 180, 270"):
        TASKS["image"](rotated=45)
