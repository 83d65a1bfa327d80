"""What the promises of README.md are measured with."""
