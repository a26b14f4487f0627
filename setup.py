"""Package definition of meta1g; tool settings stand in pyproject.toml."""
from setuptools import find_packages, setup

EXTRAS = {"lmdb": ["lmdb>=1.5"], "redis": ["redis>=5.1"]}  # map types of the same name
TEST = [
    *EXTRAS["lmdb"], *EXTRAS["redis"], "dkimpy[ed25519]>=1.1.8",
    "pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.5", "pytest-cov>=5", "hypothesis>=6.100",
]
FUZZ = ["atheris>=2.3"]  # installed by `make fuzz` alone
LINT = ["mypy>=1.13", "ruff>=0.8", "types-PyYAML"]

setup(
    name="meta1g",
    version="0.1.0",
    description="The MeTA1 mail transfer agent in Python",
    license="BSD-2-Clause",
    packages=find_packages(include=["meta1g", "meta1g.*"]),
    package_data={"meta1g": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "gevent>=25.8.1",
        "dnspython>=2.7",
        "pyOpenSSL>=25.3",
        "cryptography>=45",
        "click>=8.1",
        "PyYAML>=6.0",
        "idna>=3.7",
        'bsddb3>=6.2.9; python_version < "3.14"',
        'berkeleydb>=18.1.15; python_version >= "3.14"',
    ],
    extras_require={**EXTRAS, "test": TEST, "dev": TEST + LINT, "fuzz": FUZZ},
    entry_points={
        "console_scripts": [
            "meta1g = meta1g.cli.programs:main",
            "meta1g-ctl = meta1g.cli.ctl:main",
        ],
    },
)
