"""`mini`: a small speech-LLM of the Canary kind on a frozen Whisper encoder: its data, training and measurement."""
