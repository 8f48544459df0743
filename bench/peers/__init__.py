"""The gateways this one is compared with: installed apart, started as their documentation says."""
