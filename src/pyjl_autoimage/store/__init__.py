"""What lies where on disk, how it gets there whole, who may have written it, and whether it still holds."""
