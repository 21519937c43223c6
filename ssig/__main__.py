"""`python -m ssig`, the same as `ssig`."""

from ssig.launch import main

main()
