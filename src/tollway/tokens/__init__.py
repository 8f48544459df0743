"""How many tokens a request has, before the provider says so: counted offline, within a deadline, for estimates.

What a provider reports afterwards is always the truth; nothing here is billed. Never touches the network.
"""
