"""Maps of the weights of language models: distributions, spectra, super weights, vocabulary effects, ablations."""
