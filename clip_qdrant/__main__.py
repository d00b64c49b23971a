"""`python -m clip_qdrant`, and `accelerate launch -m clip_qdrant`: the command line."""

from clip_qdrant.cli.app import main

main()
