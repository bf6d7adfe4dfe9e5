"""What comes with the package and is no code: the bundled model and its tasks."""
