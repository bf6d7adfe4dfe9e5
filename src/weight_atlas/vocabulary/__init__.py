"""What a weight does to words and to the layers above it: effects on the vocabulary, interventions, cascade."""
