"""Accuracy against cost on real images: is it measured honestly, and what does it say?"""
