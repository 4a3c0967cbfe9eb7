"""What a start spends its time on, measured and told."""
