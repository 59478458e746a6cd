"""Results as one HTML file that needs no network; altair draws the charts."""
