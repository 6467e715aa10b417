"""The words of a command line: Hydra's flags, the overrides, and the folders that configs are searched in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit import CONFIGS, plugins
from evalkit.config import check_value
from evalkit.errors import ConfigError, suggest

_CONFIG_DIR = ("--config-dir", "-cd")
_WITH_VALUE = {*("--cfg", "-c", "--package", "-p"), *_CONFIG_DIR}
_OPTIONAL_VALUE = {"--info", "-i"}
_SWITCHES = {"--multirun", "-m", "--run", "-r", "--resolve", "--hydra-help", "--shell-completion", "-sc"}
_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_LONG = {"-c": "--cfg", "-i": "--info"}


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags (a flag and its value are one word, `--cfg=job`), and the overrides. Raises ConfigError for a flag
    that does not exist or has the wrong value."""
    flags: list[str] = []
    overrides: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, separator, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name = _LONG.get(name, name)
        if name in _SWITCHES and not separator:
            flags.append(name)
        elif name in _WITH_VALUE or name in _OPTIONAL_VALUE:
            if not separator and (name in _WITH_VALUE or (words[:1] and words[0] in _CHOICES[name])):
                value = words.pop(0) if words else ""
            flags.append(_with_value(name, value))
        else:
            known = ["--help", "--version", *_WITH_VALUE, *_OPTIONAL_VALUE, *_SWITCHES]
            raise ConfigError(f"there is no option {name}.{suggest(name, known)} See --help.")
    return flags, overrides


def _with_value(name: str, value: str) -> str:
    if name == "--info" and not value:
        value = "all"  # Hydra would take the next word for the value
    if not value:
        raise ConfigError(f"{name} needs a value.")
    if name in _CHOICES and value not in _CHOICES[name]:
        choices = _CHOICES[name]
        raise ConfigError(f"{name} {value}: choose {', '.join(choices)}.{suggest(value, choices)}")
    return f"{name}={value}"


def normalized(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra needs them. `plugins=a,b` becomes `plugins=[a,b]`, which a shell may not take unquoted.
    Raises ConfigError for a key or password in a setting `..._env`, before anything can write or print it."""
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        for part in value.strip("[]").split(","):
            check_value(key, part.strip(" '\"")) if key.endswith("_env") and "$" not in part else None
    return [_listed_plugins(override) for override in overrides]


def _listed_plugins(override: str) -> str:
    key, separator, value = override.partition("=")
    if key.lstrip("+") != "plugins" or not separator:
        return override
    return f"{key}=[{','.join(plugins.names('' if value == 'null' else value))}]"


def config_dirs(argv: Sequence[str]) -> list[Path]:
    """The user's own config folders, named by --config-dir. Raises ConfigError for one that does not exist."""
    dirs: list[Path] = []
    for position, word in enumerate(argv):
        name, separator, value = word.partition("=")
        if name in _CONFIG_DIR:
            folder = value if separator else "".join(argv[position + 1 : position + 2])
            if not Path(folder).is_dir() or not folder:
                raise ConfigError(f"--config-dir {folder or '(nothing)'} is not a folder.")
            dirs.append(Path(folder))
    return dirs


def search_dirs(argv: Sequence[str]) -> list[Path]:
    """Where configs are searched, first match first: evalkit's own folder, the user's, those of installed plug-ins."""
    return [CONFIGS, *config_dirs(argv), *plugins.config_folders()]
