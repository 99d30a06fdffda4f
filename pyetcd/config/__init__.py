"""Flags and environment of a member: `parse` makes a `Config` or raises `ConfigError`.

`flags.py` is the table, `command_line.py` reads it, `config.py` has the rules between flags.
"""

from pyetcd.config.command_line import ConfigError, Note, ShowAndExit, help_text, version_text
from pyetcd.config.config import Config, ProxyConfig, parse

__all__ = [
    "Config",
    "ProxyConfig",
    "parse",
    "ConfigError",
    "ShowAndExit",
    "Note",
    "help_text",
    "version_text",
]
