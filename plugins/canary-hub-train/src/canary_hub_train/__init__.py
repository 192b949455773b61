"""Training of the embedded nano checkpoint, as a canary_hub plugin."""
