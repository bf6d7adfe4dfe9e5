"""What the steps that run a model will cost: counted from its sizes and the settings, timed by a short probe."""
