"""What a change of weights does to a model's predictions."""
