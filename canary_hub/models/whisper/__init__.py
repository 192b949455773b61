"""Whisper as five stages: a yardstick that hears people. The stage is in the name of the file."""
