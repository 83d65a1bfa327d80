"""The version of the package; the build reads it from here."""

__version__ = "0.1.0"
"""The version of this package (Semantic Versioning).

Example:
    print("finetuning-async", __version__)
"""
