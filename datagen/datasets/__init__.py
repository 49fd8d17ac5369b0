"""Readers of labelled images, one file a format, and the form in which datasets are kept."""
