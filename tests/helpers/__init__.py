"""Models, processes and faults that several tests share."""
