"""What an auditor runs: the guarantee recomputed, hashes and signatures checked."""
