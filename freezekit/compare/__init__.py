"""Two result files, row by row: bytes and FLOPs exactly, times as ratios of ratios."""
