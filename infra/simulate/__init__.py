"""Invented incidents and 311 requests inside the real boundaries, for trying, testing and measuring.

weights · streets -> places -> generate (reports in memory) -> files (the city's own formats)
"""
