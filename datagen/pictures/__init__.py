"""Pictures that users bring, as arrays."""
