"""`python -m app.cli` is `lm`."""

from app.cli import main

main()
