"""GLM-ASR as a stack of canary_hub."""
