"""Effects with their uncertainty: paired differences, the bootstrap, proportions, corrections, severity."""
