"""What a run will cost and take, estimated from public figures alone."""
