"""The Transcribe tab: speech becomes text."""
