"""Readers of public price lists, and the rules that make one book of them. Used by build_prices.py only."""
