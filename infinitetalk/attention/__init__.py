"""Which attention kernel: candidates, their proof and their measurement on the user's GPU."""
