"""``python -m finetuning_async`` is the program ``finetuning``."""

import sys

from finetuning_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
