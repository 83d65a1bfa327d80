"""Async client."""

from finetuning_async._version import __version__
