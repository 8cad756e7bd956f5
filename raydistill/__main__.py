"""``python -m raydistill`` is ``raydistill``."""

from raydistill.cli import main

if __name__ == "__main__":
    main()
