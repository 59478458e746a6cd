"""The frozen prefix computed once: is it exact, and what does it save?"""
