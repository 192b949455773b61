"""`python -m canary_hub.cli` is the same as `canary-hub`."""

from . import main

main()
