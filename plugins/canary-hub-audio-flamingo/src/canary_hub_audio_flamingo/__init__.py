"""Audio Flamingo 3 as a stack of canary_hub."""
