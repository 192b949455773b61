"""Pauses by Silero VAD for canary_hub."""
