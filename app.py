"""The demo, on a laptop and on a Space alike: `python app.py`."""

import sys

from canary_hub.errors import HubError
from canary_hub.ui import build_demo, launch_settings

try:
    demo = build_demo(warm=True)
except HubError as error:
    sys.exit(f"canary_hub: {error}")

if __name__ == "__main__":
    demo.launch(**launch_settings())
