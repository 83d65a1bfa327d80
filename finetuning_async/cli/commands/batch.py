"""``finetuning batch``: thousands of tracks into a folder, through any crash."""

from finetuning_async.cli._batch import command as command
