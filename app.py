"""The demo, on a laptop and on a Space alike: `python app.py`."""

import sys
from pathlib import Path

from canary_hub.errors import HubError
from canary_hub.ui import build_demo, launch_settings, prepare

try:
    prepare(Path(__file__).parent)
    demo = build_demo(warm=True)
except HubError as error:
    sys.exit(f"canary_hub: {error}")

if __name__ == "__main__":
    demo.launch(**launch_settings())
