"""The one place that holds the version."""

__version__ = "0.1.0"
"""The version of this package, by the rules of Semantic Versioning.

Example:
    print("finetuning-async", __version__)
"""
