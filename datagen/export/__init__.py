"""Datasets written from a job's samples, one file a format. Streams of samples in, files out."""
