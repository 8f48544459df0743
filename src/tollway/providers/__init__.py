"""Where models are served: the catalogue of providers (data), requests and refusals as values, one socket."""
