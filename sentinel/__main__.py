"""`python -m sentinel`: the same as the `sentinel` command."""

from sentinel.cli import entry_point

if __name__ == "__main__":
    entry_point()
