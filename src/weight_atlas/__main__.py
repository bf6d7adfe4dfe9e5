"""`python -m weight_atlas`: the command without its script."""

from weight_atlas.command import main

main()
