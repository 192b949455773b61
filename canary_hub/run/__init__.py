"""What happens in a run: events, results, the injection, checks, timing."""
