"""Voxtral as a stack of canary_hub."""
