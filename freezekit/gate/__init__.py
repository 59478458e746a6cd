"""Gates: conditions on a result's figures that fail a run, such as `peak_bytes > full * 0.6`."""
