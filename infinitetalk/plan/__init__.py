"""Integers only: which frames each window samples, pins and keeps."""
