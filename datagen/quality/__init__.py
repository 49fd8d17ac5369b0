"""How good images are: the judge."""
