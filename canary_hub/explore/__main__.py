"""`python -m canary_hub.explore qwen` is `canary-hub explore qwen`."""

import sys

from ..cli import main

main(["explore", *sys.argv[1:]], prog_name="canary-hub")
